"""Fetching from real local servers: a Hub and a plain web server."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from metrics.weights.fetch import fetch_weights, find_weights
from metrics.weights.files import RemoteFile, Weights
from plugins_manifest.errors import UserError


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
    asked: list[str] = []
    wanted = weights(f"{web}/net.pth", PUBLISHED)
    (path,) = fetch_weights(wanted, progress=asked.append)
    assert path.read_bytes() == b"weights" and path.parent == folder / "tiny"
    assert fetch_weights(wanted, progress=asked.append) == [path]
    assert asked == ["net.pth"]


def test_another_content_than_published_is_not_kept(web: str, folder: Path):
    with pytest.raises(UserError, match=r"published is 00000000\.\.\."):
        fetch_weights(weights(f"{web}/net.pth", "00000000"))
    assert list((folder / "tiny").iterdir()) == []


def test_a_missing_file_is_told_with_its_address(web: str, folder: Path):
    with pytest.raises(UserError, match=r"none\.pth .*404"):
        fetch_weights(weights(f"{web}/none.pth"))
    assert list((folder / "tiny").iterdir()) == []


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
