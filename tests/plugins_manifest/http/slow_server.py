"""Loopback servers that keep a client waiting, each in another way."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from plugins_manifest.http.client import Client
from plugins_manifest.http.pace import Limits

# short limits, so that each server is given up within a second or two
LIMITS = Limits(
    head_seconds=0.5,
    head_bytes=200_000,
    window_seconds=0.5,
    bytes_per_second=4000,
    whole_seconds=1.5,
    connect_seconds=0.5,
)
IDLE_SECONDS = 0.4
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
Behavior = Callable[["Connection"], None]


class Connection:
    """A connection after its request was read."""

    def __init__(self, raw: socket.socket, address: str, n_before: int) -> None:
        self.raw, self.address, self.n_before = raw, address, n_before

    def send(self, content: bytes) -> None:
        self.raw.sendall(content)

    def drip(self, content: bytes, *, pause: float = 0.05) -> None:
        for i in range(len(content)):
            self.send(content[i : i + 1])
            time.sleep(pause)

    def for_ever(self, content: bytes, *, pause: float = 0.0) -> None:
        ends = time.monotonic() + 8  # a client that does not give up fails its test by then
        while time.monotonic() < ends:
            self.send(content)
            time.sleep(pause)


@contextmanager
def slow_server(behave: Behavior, *, reads_request: bool = True) -> Iterator[str]:
    """Serve one behavior on a loopback port; yields the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    is_open, n_connections = True, 0

    def serve(raw: socket.socket, n_before: int) -> None:
        with raw:
            try:
                if reads_request:
                    head = b""
                    while b"\r\n\r\n" not in head and (chunk := raw.recv(65536)):
                        head += chunk
                behave(Connection(raw, address, n_before))
            except OSError:
                return  # the client went away

    def accept() -> None:
        nonlocal n_connections
        while is_open:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(raw, n_connections), daemon=True).start()
            n_connections += 1

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield address
    finally:
        is_open = False
        listener.close()


def hasty_client(**changed: object) -> Client:
    """Return a client with short limits that tries once."""
    given: dict = {"allow": None, "timeout_seconds": IDLE_SECONDS, "limits": LIMITS, "max_tries": 1}
    return Client(**{**given, **changed})


def _headers_dripped(to: Connection) -> None:
    to.drip(OK + b"X: y\r\n" * 1000)


def _headers_for_ever(to: Connection) -> None:
    to.send(OK)
    to.for_ever(b"X-Y: " + b"z" * 100 + b"\r\n")


def _header_without_end(to: Connection) -> None:
    to.send(OK + b"X: ")
    to.for_ever(b"y" * 1000)


def _informational_for_ever(to: Connection) -> None:
    to.for_ever(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")


def _informational_dripped(to: Connection) -> None:
    to.for_ever(b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.05)


def _body_dripped(to: Connection) -> None:
    to.send(OK + b"Content-Length: 100000\r\n\r\n")
    to.drip(b"x" * 1000)


def _body_dripped_until_closed(to: Connection) -> None:
    to.send(OK + b"\r\n")
    to.drip(b"x" * 1000)


def _chunks_dripped(to: Connection) -> None:
    to.send(CHUNKED)
    to.for_ever(b"1\r\nx\r\n", pause=0.05)


def _chunk_extensions_for_ever(to: Connection) -> None:
    to.send(CHUNKED)
    to.for_ever(b"1;" + b"e" * 50_000 + b"\r\nx\r\n", pause=0.02)


def _chunk_extension_without_end(to: Connection) -> None:
    to.send(CHUNKED + b"1;")
    to.for_ever(b"e" * 10, pause=0.02)


def _trailers_dripped(to: Connection) -> None:
    to.send(CHUNKED + b"1\r\nx\r\n0\r\n")
    to.for_ever(b"T: u\r\n", pause=0.05)


def _trailers_for_ever(to: Connection) -> None:
    to.send(CHUNKED + b"1\r\nx\r\n0\r\n")
    to.for_ever(b"T: u\r\n" * 100)


def _redirects_slowly(to: Connection) -> None:
    time.sleep(0.2)
    to.send(b"HTTP/1.1 302 Found\r\nLocation: /%d\r\nContent-Length: 0\r\n\r\n" % to.n_before)


def _redirect_without_end(to: Connection) -> None:
    to.send(b"HTTP/1.1 302 Found\r\nLocation: /")
    to.for_ever(b"x" * 1000)


def _silent(to: Connection) -> None:
    time.sleep(8)


def _silent_after_half(to: Connection) -> None:
    to.send(OK + b"Content-Length: 100000\r\n\r\n" + b"x" * 50_000)
    time.sleep(8)


def _body_for_ever(to: Connection) -> None:
    to.send(OK + b"\r\n")
    to.for_ever(b"x" * 100_000)


def _fast_enough_and_endless(to: Connection) -> None:
    to.send(OK + b"\r\n")
    to.for_ever(b"x" * 500, pause=0.02)


def _error_dripped(to: Connection) -> None:
    to.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 5000\r\n\r\n")
    to.drip(b"x" * 1000)


def _too_short(to: Connection) -> None:
    to.send(OK + b"Content-Length: 100\r\n\r\nx")


def _two_lengths(to: Connection) -> None:
    to.send(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx")


def _negative_length(to: Connection) -> None:
    to.send(OK + b"Content-Length: -5\r\n\r\nxx")


def _length_of_digits(to: Connection) -> None:
    to.send(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nxx")


def _gzip_bomb(to: Connection) -> None:
    to.send(OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08")


def _no_http(to: Connection) -> None:
    to.send(b"\x00\xff" * 1000)


def _switching_protocols(to: Connection) -> None:
    to.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
    to.for_ever(b"x", pause=0.05)


def _busy_for_years(to: Connection) -> None:
    after = (b"9" * 30, b"Wed, 01 Jan 9999 00:00:00 GMT", b"Mon, 01 Jan 2024 00:00:00 +9999999999")
    head = b"HTTP/1.1 429 Busy\r\nConnection: close\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n"
    to.send(head % after[to.n_before % 3])


BEHAVIORS: dict[str, Behavior] = {
    name.strip("_").replace("_", " "): value
    for name, value in list(globals().items())
    if name.startswith("_") and callable(value) and value.__module__ == __name__
}
DRIPS = (
    *("headers dripped", "informational for ever", "body dripped", "chunk extensions for ever"),
    *("trailers dripped", "redirects slowly"),
)
