"""Fetching from real local servers: a Hub, a plain web server and one that misbehaves."""

import hashlib
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from metrics.weights.fetch import fetch_weights, find_weights
from metrics.weights.files import RemoteFile, Weights
from plugins_manifest.errors import UserError
from tests import loopback


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "net.pth").write_bytes(b"weights")
    handler = partial(Quiet, directory=str(tmp_path / "web"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XBENCH_METRIC_WEIGHTS", str(tmp_path / "kept"))
    return tmp_path / "kept"


def weights(source: str, sha256: str = "") -> Weights:
    return Weights("tiny", "Tiny", (RemoteFile("net.pth", source, sha256),), "MIT")


PUBLISHED = hashlib.sha256(b"weights").hexdigest()[:8]


def test_a_file_comes_once_and_has_the_published_hash(web: str, folder: Path):
    announced: list[str] = []
    wanted = weights(f"{web}/net.pth", PUBLISHED)
    (path,) = fetch_weights(wanted, announce=announced.append)
    assert path.read_bytes() == b"weights" and path.parent == folder / "tiny"
    assert fetch_weights(wanted, announce=announced.append) == [path]
    assert announced == ["net.pth"]


def test_another_content_than_published_is_not_kept(web: str, folder: Path):
    with pytest.raises(UserError, match=r"published is 00000000\.\.\."):
        fetch_weights(weights(f"{web}/net.pth", "00000000"))
    assert list((folder / "tiny").iterdir()) == []


def test_a_missing_file_is_told_with_its_address(web: str, folder: Path):
    with pytest.raises(UserError, match=r"404.*none\.pth"):
        fetch_weights(weights(f"{web}/none.pth"))
    assert list((folder / "tiny").iterdir()) == []


CONTENT = hashlib.shake_256(b"a large file").digest(300_000)
CONTENT_SHA256 = hashlib.sha256(CONTENT).hexdigest()[:8]


class _Handler(loopback.Quiet, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.owner.ranges.append(self.headers.get("Range"))
        reply = self.owner.script.popleft() if self.owner.script else _Handler.send_content
        reply(self)

    def send_content(self, *, stop_after: int | None = None) -> None:
        """Send the file or the requested range; with `stop_after` hang up after so many bytes."""
        etag, wanted = '"one"', self.headers.get("Range", "")
        is_part = bool(wanted) and self.headers.get("If-Range") == etag
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if is_part else 0
        self.send_response(206 if is_part else 200)
        if is_part:
            total = len(CONTENT)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:][:stop_after])
        if stop_after is not None:
            self.close_connection = True

    def send_busy(self) -> None:
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()


class Unreliable(loopback.Loopback):
    """Serves one file; each entry of `script` replaces the reply to one request."""

    handler = _Handler

    def __init__(self) -> None:
        self.script: deque[Callable[[_Handler], None]] = deque()
        self.ranges: list[str | None] = []


@pytest.fixture
def unreliable() -> Iterator[Unreliable]:
    with Unreliable() as server:
        yield server


def break_off(handler: _Handler) -> None:
    handler.send_content(stop_after=200_000)


def test_a_broken_download_resumes_where_it_broke(unreliable: Unreliable):
    unreliable.script.append(break_off)
    n_received: list[int] = []

    @contextmanager
    def progress(name: str, total: int | None, done: int) -> Iterator[Callable[[int], object]]:
        assert total == len(CONTENT)
        yield n_received.append

    wanted = weights(f"{unreliable.url}/net.pth", CONTENT_SHA256)
    (path,) = fetch_weights(wanted, progress=progress, sleep=lambda seconds: None)
    assert path.read_bytes() == CONTENT
    assert unreliable.ranges == [None, "bytes=200000-"]
    assert sum(n_received) == len(CONTENT)


def test_a_later_call_resumes_an_interrupted_download(unreliable: Unreliable, folder: Path):
    unreliable.script.extend([break_off, *[_Handler.send_busy] * 9])
    wanted = weights(f"{unreliable.url}/net.pth", CONTENT_SHA256)
    with pytest.raises(UserError, match=r"503.*net\.pth"):
        fetch_weights(wanted, sleep=lambda seconds: None)
    assert list((folder / "tiny").iterdir()) == []
    unreliable.script.clear()
    (path,) = fetch_weights(wanted)
    assert path.read_bytes() == CONTENT and unreliable.ranges[-1] == "bytes=200000-"
    assert not list(folder.rglob("*.part"))


def test_a_busy_server_is_tried_again_after_growing_pauses(unreliable: Unreliable):
    unreliable.script.extend([_Handler.send_busy] * 3)
    pauses: list[float] = []
    (path,) = fetch_weights(weights(f"{unreliable.url}/net.pth"), sleep=pauses.append)
    assert path.read_bytes() == CONTENT and pauses == [1.0, 2.0, 4.0]


def test_a_download_with_another_hash_is_refused_and_not_kept(unreliable: Unreliable, folder: Path):
    unreliable.script.append(break_off)
    with pytest.raises(UserError, match=r"published is 00000000\.\.\."):
        fetch_weights(weights(f"{unreliable.url}/net.pth", "0" * 8), sleep=lambda seconds: None)
    assert not [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"]


def test_weights_are_downloaded_through_the_proxy_of_the_environment(
    unreliable: Unreliable, monkeypatch: pytest.MonkeyPatch
):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", unreliable.url)
    (path,) = fetch_weights(weights("http://weights.test/net.pth", CONTENT_SHA256))
    assert path.read_bytes() == CONTENT


def test_unknown_weights_name_the_nearest():
    with pytest.raises(UserError, match="hpsv2"):
        find_weights("hpsv2.2")


def test_the_hub_is_asked_by_its_own_library(tmp_path: Path, folder: Path):
    from tests.runners.hub_server import HubServer, Repository

    home = tmp_path / "repository"
    home.mkdir()
    (home / "net.bin").write_bytes(b"weights" * 10)
    repository = Repository.of_folder(home, "a" * 40)
    with HubServer({"owner/net": repository}) as hub:
        code = (
            "from metrics.weights.fetch import fetch_weights\n"
            "from metrics.weights.files import RemoteFile, Weights\n"
            "file = RemoteFile('net.bin', 'hf://owner/net/net.bin')\n"
            "w = Weights('tiny', 'Tiny', (file,), 'MIT')\n"
            "print(fetch_weights(w)[0].read_bytes())\n"
        )
        settings = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "XBENCH_METRIC_WEIGHTS": str(folder),
            "PATH": "",
        }
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=settings
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == repr(b"weights" * 10)
