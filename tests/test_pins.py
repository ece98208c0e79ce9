"""Claims about scripts/pin, with a registry and repositories of this machine."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "pin"
INDEX = json.dumps({"manifests": [{"digest": "sha256:" + "b" * 64}]}).encode()
DIGEST = hashlib.sha256(INDEX).hexdigest()
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class Registry(BaseHTTPRequestHandler):
    """Serves one index to those who fetched a token, or what `faults` names instead."""

    faults: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        host = f"http://127.0.0.1:{self.server.server_address[1]}"
        if self.path.startswith("/token?"):
            assert "scope=repository%3Alibrary%2Fpython%3Apull" in self.path
            self._reply(200, b'{"token": "t"}', {"Content-Type": "application/json"})
        elif self.headers["Authorization"] != "Bearer t":
            fields = f'realm="{host}/token",service="s",scope="repository:library/python:pull"'
            self._reply(401, b"", {"WWW-Authenticate": f"Bearer {fields}"})
        elif self.path == "/v2/library/python/manifests/3.11-slim":
            declared = {"Docker-Content-Digest": f"sha256:{DIGEST}", "Content-Type": INDEX_TYPE}
            self._reply(200, INDEX, declared | self.faults)
        else:
            self._reply(404, b"", {})

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()
    Registry.faults = {}


@pytest.fixture
def commit(tmp_path: Path) -> str:
    """Create a repository actions/cache with an annotated tag; return the tagged commit."""
    folder = tmp_path / "git" / "actions" / "cache"
    folder.mkdir(parents=True)
    (folder / "action.yml").write_text("name: cache")
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-qm", "x"],
        ["tag", "-am", "x", "v1.2.3"],
    ):
        subprocess.run(["git", *who, *words], cwd=folder, check=True)
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def pin(tmp_path: Path, registry: str, *options: str) -> subprocess.CompletedProcess[str]:
    where = ["--root", str(tmp_path), "--registry", registry, "--git", f"file://{tmp_path}/git"]
    command = [sys.executable, str(SCRIPT), *where, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write_old_pins(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"ARG I=python:3.11-slim@sha256:{'a' * 64}\nFROM $I\n")
    (tmp_path / "action.yml").write_text(f"- uses: actions/cache@{'a' * 40} # v1.2.3\n")


def test_pins_become_what_their_names_mean(tmp_path: Path, registry: str, commit: str) -> None:
    write_old_pins(tmp_path)
    assert pin(tmp_path, registry, "--check").returncode == 1
    assert "a" * 40 in (tmp_path / "action.yml").read_text()
    done = pin(tmp_path, registry)
    assert done.returncode == 0, done.stderr
    dockerfile = (tmp_path / "Dockerfile").read_text()
    assert dockerfile == f"ARG I=python:3.11-slim@sha256:{DIGEST}\nFROM $I\n"
    action = (tmp_path / "action.yml").read_text()
    assert action == f"- uses: actions/cache@{commit} # v1.2.3\n"
    assert pin(tmp_path, registry, "--check").returncode == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"Docker-Content-Digest": "sha256:" + "c" * 64},
        {"Content-Type": "application/vnd.oci.image.manifest.v1+json"},
    ],
)
def test_a_registry_that_sends_something_else_changes_nothing(
    tmp_path: Path, registry: str, commit: str, fault: dict[str, str]
) -> None:
    write_old_pins(tmp_path)
    Registry.faults = fault
    assert pin(tmp_path, registry).returncode != 0
    assert "a" * 64 in (tmp_path / "Dockerfile").read_text()


def test_a_tag_that_does_not_exist_changes_nothing(
    tmp_path: Path, registry: str, commit: str
) -> None:
    (tmp_path / "action.yml").write_text(f"- uses: actions/cache@{'a' * 40} # v9.9.9\n")
    done = pin(tmp_path, registry)
    assert done.returncode != 0 and "no tag v9.9.9" in done.stderr
    assert "a" * 40 in (tmp_path / "action.yml").read_text()
