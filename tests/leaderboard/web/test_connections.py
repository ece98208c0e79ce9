"""Claims about slow and incomplete requests to a real server."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from leaderboard.web.connections import MAX_HEADER_BYTES, TimedConnection

SECONDS = 0.5
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


class Quick(TimedConnection):
    request_seconds = SECONDS


async def app(scope, receive, send) -> None:
    """Answer slowly, after reading the body."""
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(2 * SECONDS if scope["path"] == "/slow" else 0)
    headers = [(b"content-length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app,
            http=Quick,
            lifespan="off",
            log_config=None,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


def answer(port: int, *parts: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """Send parts with pauses; return all that comes back, and the seconds until the close."""
    began, received = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            while piece := connection.recv(65536):
                received += piece
        except ConnectionError:
            pass
    return received, time.monotonic() - began


def test_a_header_or_body_that_does_not_come_ends_the_connection(port):
    for parts in ([], [GET], [GET + b"Content-Length: 9\r\n\r\nabc"]):
        received, seconds = answer(port, *parts)
        assert received.startswith(b"HTTP/1.1 408 ") and SECONDS / 2 < seconds < 6 * SECONDS


def test_a_header_that_drips_ends_the_connection(port):
    _, seconds = answer(port, GET, *[b"x"] * 40, pause=0.1)
    assert seconds < 6 * SECONDS


def test_an_answer_may_take_longer_than_a_request(port):
    end = b"Connection: close\r\n\r\n"
    received, _ = answer(port, GET.replace(b"/ ", b"/slow ", 1) + end)
    assert received.endswith(b"done")


def test_several_requests_on_a_connection_have_the_time_each(port):
    received, _ = answer(port, *[GET + b"\r\n"] * 4, GET + b"Connection: close\r\n\r\n", pause=0.3)
    assert received.count(b"done") == 5


def test_the_second_request_of_a_connection_is_timed_too(port):
    received, seconds = answer(port, GET + b"\r\n", GET, pause=0.1)
    assert received.count(b"done") == 1 and seconds < 6 * SECONDS


def test_a_header_without_end_is_refused(port):
    received, _ = answer(port, GET, *[b"X" * 60_000] * 4, pause=0.05)
    assert b" 400 " in received[:20] or received == b""
