"""Make and send pictures within a bound of memory, however many are requested at once.

A decoded picture takes up to 48 MiB, its PNG as much again. A few are made at a time, and few large
ones are sent at a time, piece by piece as the client reads them; the others wait without a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from typing import NamedTuple

from anyio import CapacityLimiter, to_thread
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from bench.store.recent import RecentItems

N_MAKING = min(4, os.cpu_count() or 1)
N_SENDING = 16
SEND_SECONDS = 60.0
CACHE_BYTES = 64 << 20
_PIECE_BYTES = 128 << 10


class Picture(NamedTuple):
    """An encoded picture and its media type."""

    content: bytes
    media_type: str


Make = Callable[[], Picture | None]
_MADE = RecentItems[tuple[str, str], Picture](CACHE_BYTES, size=lambda item: len(item.content))


def remembered(content: bytes, how: str, make: Make) -> Picture | None:
    """Return what `make` makes of a file's content in a way `how`; the last ones are kept."""
    key = hashlib.sha256(content).hexdigest(), how
    found = _MADE.find(key)
    if found is None and (found := make()) is not None:
        _MADE.add(key, found)
    return found


class PictureQueue:
    """The pictures that one server makes and sends."""

    def __init__(self, *, send_seconds: float = SEND_SECONDS) -> None:
        self._making = CapacityLimiter(N_MAKING)
        self._sending = asyncio.Semaphore(N_SENDING)
        self._send_seconds = send_seconds

    def answer(self, make: Make, headers: Mapping[str, str], *, is_large: bool) -> ASGIApp:
        """Return the response of a request; `make` runs in a thread, None becomes a 404.

        Large pictures are made and sent `N_SENDING` at a time.
        """

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            async with self._sending if is_large else nullcontext():
                picture = await to_thread.run_sync(make, limiter=self._making)
                if picture is None:
                    await PlainTextResponse("no such picture", 404)(scope, receive, send)
                    return
                # an answer that ends early makes the server close the connection
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._send_seconds):
                        await _send(picture, headers, send)

        return respond


async def _send(picture: Picture, headers: Mapping[str, str], send: Send) -> None:
    """Send a picture piece by piece: each waits until the client has read most of the last."""
    length = {"Content-Length": str(len(picture.content)), "Content-Type": picture.media_type}
    raw = [(n.lower().encode(), v.encode()) for n, v in {**headers, **length}.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    for start in range(0, len(picture.content), _PIECE_BYTES):
        piece = picture.content[start : start + _PIECE_BYTES]
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
