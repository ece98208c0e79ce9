"""Refuse requests for host names that this server is not known by.

Against DNS rebinding: the name of another site resolves to this server's address, so that a page of
that site can read what the server sends to a browser on this machine or network. The browser still
writes that name into `Host`. An IP address in `Host` is safe: no name was resolved.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::"})
_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1
_MISDIRECTED = 421  # RFC 9110, section 15.5.20
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:@/\\\s]+))(?::\d{0,5})?")


class KnownHosts:
    """ASGI middleware: HTTP and websockets need a `Host` that is known."""

    def __init__(self, app: ASGIApp, *, bound: str, allowed: Iterable[str] = ()) -> None:
        self._app = app
        self._takes_addresses = bound in WILDCARDS
        self._known = LOOPBACK_NAMES | {bound.lower()} | {host_name(name) for name in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, or answer with the option that allows its host name."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        name = host_of(Headers(scope=scope).get("host", ""))
        if name is not None and self._is_known(name):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        else:
            await _refusal(name)(scope, receive, send)

    def _is_known(self, name: str) -> bool:
        return name in self._known or (self._takes_addresses and _is_address(name))


def host_of(header: str) -> str | None:
    """Return the name or address of a `Host` header without its port; None if it is invalid."""
    found = _HOST.fullmatch(header.lower())
    if found is None:
        return None
    name = found[1] or found[2].removesuffix(".")
    return name if found[1] or _NAME.fullmatch(name) else None


def host_name(name: str) -> str:
    """Return an allowed name as browsers send it; `ValueError` if it is not a host name."""
    plain = name.strip().lower().removesuffix(".").strip("[]")
    if not _is_address(plain):
        plain = plain.encode("idna").decode("ascii")  # UnicodeError is a ValueError
        if not _NAME.fullmatch(plain):
            raise ValueError(name)
    return plain


def _refusal(name: str | None) -> PlainTextResponse:
    if name is None:
        return PlainTextResponse("The Host header is missing or invalid.\n", status_code=400)
    text = (
        f"This server is not known as {name}.\nIf the name is right, start the server with "
        f"--allow-host {name}\n"
    )
    return PlainTextResponse(text, status_code=_MISDIRECTED)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
