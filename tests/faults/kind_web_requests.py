"""Hostile requests to a real server on loopback, which must go on answering good ones."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from random import Random

import numpy as np
import psutil

from bench.store.files import png_bytes
from tests.faults.base import Fault, Kind
from tests.leaderboard.drawn_results import write_results
from tests.leaderboard.web_server import WebServer

_SECONDS = 40.0  # more than the server's own 20 s
_MOST_MIB = 1200
_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
Talk = Callable[[WebServer], None]


@cache
def _server() -> tuple[WebServer, list[str]]:
    """Start one server for all faults; return it with the ids of its trials."""
    folder = Path(tempfile.mkdtemp(prefix="xbench-requests-"))
    store = write_results(folder / "runs" / "one", n_cases=4, n_seeds=1)
    trials = store.trials()["trial_id"].tolist()
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
    content = png_bytes(noise)
    for i, trial in enumerate(trials):
        store.image_path(trial).write_bytes(content + i.to_bytes(4))
    (folder / "runs" / "secret.txt").write_text("a secret")
    server = WebServer(folder / "runs", str(folder / "votes.sqlite"), folder / "log")
    owner = os.getpid()
    server.start()
    atexit.register(lambda: server.stop(signal.SIGTERM) if os.getpid() == owner else None)
    return server, trials


def _provoke(_: Path, *, talk: Talk) -> None:
    server, _trials = _server()
    talk(server)
    began = time.monotonic()
    status, _headers, body = _answer(server, _get("/"))
    assert status == 200 and b"<html" in body, "the server does not answer any more"
    assert time.monotonic() - began < 10
    used = psutil.Process(server.pid).memory_info().rss >> 20
    assert used < _MOST_MIB, f"the server uses {used} MiB"


def _get(path: str, *, host: str = "localhost", more: bytes = b"") -> bytes:
    start = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    return start.encode("latin-1") + more + b"\r\n"


def _answer(
    server: WebServer, *parts: bytes, pause: float = 0.0, limit: float = _SECONDS
) -> tuple[int, bytes, bytes]:
    """Send parts; return status (0: closed without an answer), headers and body."""
    port = int(server.url.rsplit(":", 1)[1])
    received, deadline = b"", time.monotonic() + limit
    with socket.create_connection(("127.0.0.1", port), timeout=limit) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            while piece := connection.recv(1 << 20):
                received += piece
                assert time.monotonic() < deadline, "the connection was held"
        except TimeoutError as error:
            raise AssertionError("the connection was held") from error
        except ConnectionError:
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    return (int(head[9:12]) if head[:5] == b"HTTP/" else 0), head, body


def _refused_host(server: WebServer, *, host: str) -> None:
    status, head, body = _answer(server, _get("/", host=host))
    assert status in (400, 421), status
    assert b"<" not in body and b"set-cookie" not in head.lower()
    socket_key = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + _KEY
    upgrade = _get("/_stcore/stream", host=host, more=socket_key + b"\r\n")
    upgrade = upgrade.replace(b"Connection: close", b"Connection: Upgrade")
    assert _answer(server, upgrade)[0] in (400, 403, 421)


def _incomplete(server: WebServer, *, parts: list[bytes], pause: float) -> None:
    status, _, _ = _answer(server, *parts, pause=pause)
    assert status in (0, 400, 404, 405, 408, 413, 431, 501), status


def _path(server: WebServer, *, path: str) -> None:
    status, head, body = _answer(server, _get(path))
    assert b"a secret" not in body and b"root:" not in body
    assert status in (200, 301, 302, 307, 400, 403, 404, 405), status
    # the index page answers for pages that it does not know
    assert status != 200 or b"<html" in body or path.startswith("/static"), (path, head)


def _parallel(server: WebServer, *, n: int, distinct: bool) -> None:
    trials = _server()[1]

    def fetch(i: int) -> int:
        trial = trials[i % len(trials) if distinct else 0]
        status, _, body = _answer(server, _get(f"/run-image/one/full/{trial}"), limit=55)
        assert body[:8] == b"\x89PNG\r\n\x1a\n" and len(body) > 1 << 20
        return status

    with ThreadPoolExecutor(n) as pool:
        assert set(pool.map(fetch, range(n))) == {200}


def _unread(server: WebServer, *, n: int) -> None:
    """Request large pictures and read nothing of them."""
    port, trials = int(server.url.rsplit(":", 1)[1]), _server()[1]
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(n)]
    for i, connection in enumerate(held):
        connection.sendall(_get(f"/run-image/one/full/{trials[i % len(trials)]}"))
    time.sleep(1)
    status, _, _ = _answer(server, _get(f"/run-image/one/small/{trials[0]}"))
    assert status == 200
    for connection in held:
        connection.close()


def _held(server: WebServer, *, n: int) -> None:
    """Hold many connections open without sending anything."""
    port = int(server.url.rsplit(":", 1)[1])
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(n)]
    assert _answer(server, _get("/"))[0] == 200
    for connection in held:
        connection.close()


HOSTS = (
    *("evil.example", "localhost.evil.example:8501", "127.0.0.1.nip.example", "10.0.0.1", ""),
    *(
        "<script>alert(1)</script>",
        "localhost@evil.example",
        "[::1",
        "x" * 5000,
        "a b",
        "2130706433",
    ),
)
PATHS = (
    *("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/static/../../../../etc/passwd"),
    *("/static/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/run-image/../small/x", "/run-image/one/full/.."),
    *("/run-image/%2e%2e/full/secret.txt", "/run-image/one/full/%2e%2e%2f%2e%2e%2fsecret.txt"),
    *("/run-image/one/<script>/x", "/run-image/one/small/' OR 1=1 --".replace(" ", "%20")),
    *("/study-image/picture/" + "0" * 32, "/study-image/..%2f..%2f/x", "/media/../secret.txt"),
    *("/component/../../secret.txt", "/_stcore/../secret.txt", "//evil.example/", "/%00", "/\xff"),
    *("/run-image/one/small/" + "x" * 8000, "/?run=" + "%3Cscript%3E" * 200, "/%F0%9F%92%A9"),
)
FIRST = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


def _named() -> Iterator[tuple[str, Talk]]:
    yield "host evil.example", partial(_refused_host, host="evil.example")
    for host in HOSTS[1:]:
        yield f"host {host[:30]!r}", partial(_refused_host, host=host)
    for path in PATHS:
        yield f"path {path[:40]!r}", partial(_path, path=path)
    for title, parts, pause in (
        ("nothing", [], 0.0),
        ("half a header", [FIRST + b"X-Long: "], 0.0),
        ("a header that drips", [FIRST, *[b"x"] * 30], 1.0),
        ("half a body", [POST + b"Content-Length: 1000\r\n\r\nabc"], 0.0),
        ("a body that drips", [POST + b"Content-Length: 1000\r\n\r\n", *[b"x"] * 30], 1.0),
        ("an endless header", [FIRST, *[b"a" * 60_000] * 30], 0.01),
        ("20,000 headers", [FIRST, *[b"a: b\r\n" * 1000] * 20], 0.01),
        ("two lengths", [POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"], 0.0),
        ("a negative length", [POST + b"Content-Length: -1\r\n\r\n"], 0.0),
        ("a length of 10^30", [POST + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n"], 0.0),
        ("a broken chunk", [POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"], 0.0),
        ("two hosts", [FIRST + b"Host: localhost\r\nConnection: close\r\n\r\n"], 0.0),
        ("no host", [b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"], 0.0),
        ("zero bytes", [bytes(1000)], 0.0),
        ("TLS", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)], 0.0),
        ("a command of SMTP", [b"EHLO localhost\r\n\r\n"], 0.0),
    ):
        yield f"request: {title}", partial(_incomplete, parts=parts, pause=pause)
    yield "30 full pictures at once", partial(_parallel, n=30, distinct=True)
    yield "30 times the same picture at once", partial(_parallel, n=30, distinct=False)
    yield "40 clients that do not read", partial(_unread, n=40)
    yield "200 idle connections", partial(_held, n=200)


def _faults(rng: Random) -> Iterator[Fault]:
    for title, talk in _named():
        yield Fault(title, partial(_provoke, talk=talk))
    while True:
        junk = bytearray(_get(rng.choice(PATHS)))
        for _ in range(rng.randint(1, 8)):
            junk[rng.randrange(len(junk) - 4)] = rng.randrange(256)
        yield Fault(f"a request with changed bytes {junk[:20].hex()}", partial(_drawn, bytes(junk)))


def _drawn(request: bytes, folder: Path) -> None:
    def talk(server: WebServer) -> None:
        _, _, body = _answer(server, request)
        assert b"a secret" not in body and b"root:" not in body

    _provoke(folder, talk=talk)


KIND = Kind(
    "web requests",
    "D servers",
    "a server survives hostile requests and shows nothing to unknown hosts",
    _faults,
    count=80,
    sample=2,
    limit_s=120,
)
