"""Claims about making and sending many pictures at once."""

import asyncio
import threading
import time
from typing import Any

import pytest

from leaderboard.pictures import N_MAKING, N_SENDING, Picture, PictureQueue, remembered

BIG = Picture(b"x" * 1_000_000, "image/png")


async def request(queue: PictureQueue, make, *, is_large: bool, read: Any = None) -> bytes:
    """Answer one request; `read` is awaited by the client for each piece."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if read is not None:
            await read()

    scope = {"type": "http", "method": "GET", "headers": []}
    await queue.answer(make, {}, is_large=is_large)(scope, None, send)  # type: ignore[arg-type]
    return b"".join(message.get("body", b"") for message in sent)


def test_few_pictures_are_made_at_a_time_and_all_are_answered():
    at_once, most, lock = 0, 0, threading.Lock()

    def make() -> Picture:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.01)
        with lock:
            at_once -= 1
        return BIG

    async def run() -> list[bytes]:
        queue = PictureQueue()
        return await asyncio.gather(*(request(queue, make, is_large=True) for _ in range(40)))

    assert set(asyncio.run(run())) == {BIG.content}
    assert most <= N_MAKING


def test_clients_that_do_not_read_keep_small_pictures_from_nobody_and_are_let_go():
    async def run() -> float:
        queue = PictureQueue(send_seconds=0.3)

        async def never() -> None:
            await asyncio.sleep(60)

        stalled = [
            asyncio.create_task(request(queue, lambda: BIG, is_large=True, read=never))
            for _ in range(N_SENDING)
        ]
        await asyncio.sleep(0.1)
        small = Picture(b"small", "image/webp")
        assert await request(queue, lambda: small, is_large=False) == b"small"
        began = time.monotonic()
        assert await request(queue, lambda: BIG, is_large=True) == BIG.content
        await asyncio.gather(*stalled)
        return time.monotonic() - began

    assert asyncio.run(run()) < 5


def test_what_cannot_be_made_is_a_404_and_frees_its_place():
    async def run() -> list[bytes]:
        queue = PictureQueue()
        return [await request(queue, lambda: None, is_large=True) for _ in range(2 * N_SENDING)]

    assert set(asyncio.run(run())) == {b"no such picture"}


def test_a_picture_is_made_again_only_when_its_file_changes():
    made: list[bytes] = []

    def get(content: bytes) -> Picture | None:
        def make() -> Picture:
            made.append(content)
            return Picture(content, "image/png")

        return remembered(content, "of this test", make)

    assert [get(c) for c in (b"one", b"one", b"two")] == [get(b"one"), get(b"one"), get(b"two")]
    assert made == [b"one", b"two"]


@pytest.mark.parametrize("size", [0, 1, 128 << 10, (128 << 10) + 1])
def test_every_byte_arrives(size):
    picture = Picture(b"y" * size, "image/png")
    got = asyncio.run(request(PictureQueue(), lambda: picture, is_large=True))
    assert got == picture.content
