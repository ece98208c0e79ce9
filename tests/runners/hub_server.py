"""A small Hugging Face Hub: models and datasets at one commit each, over plain HTTP.

Serves the requests of huggingface_hub: repository info, the file tree, and files, of which weights
are large (LFS): answered with a redirect to the storage path and their sha256 as the etag.
Repositories can be gated; whatever is unknown is refused with the Hub's own error codes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

from tests.loopback import Loopback, Quiet

LARGE = (".safetensors", ".bin")
TOKEN = "hf_friend"


@dataclass(frozen=True)
class Repository:
    """Files by name, at one commit."""

    commit: str
    files: Mapping[str, Path]
    gated: bool = False

    @classmethod
    def of_folder(cls, folder: Path, commit: str, *, gated: bool = False) -> Repository:
        files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        return cls(commit, files, gated)


class _Handler(Quiet, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path).path.strip("/").removeprefix("datasets/").split("/")
        if parts[0] == "storage":
            self._send_file("storage", "/".join(parts[1:3]), "/".join(parts[3:]))
        elif parts[:2] in (["api", "models"], ["api", "datasets"]):
            self._api("/".join(parts[2:4]), parts[4], parts[5] if len(parts) > 5 else "")
        elif len(parts) > 4 and parts[2] == "resolve":
            name, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
            if (repository := self._repository(name, revision)) is None:
                return
            if file not in repository.files:
                self._refuse(404, "EntryNotFound")
            elif file.endswith(LARGE):
                self._redirect(name, file, repository)
            else:
                self._send_file("file", name, file)
        else:
            self._refuse(404, "RepoNotFound")

    def _repository(self, name: str, revision: str) -> Repository | None:
        repository = self.owner.repositories.get(name)
        if repository is None:
            self._refuse(401, "RepoNotFound")
        elif repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(403, "GatedRepo")
        elif revision not in ("main", repository.commit):
            self._refuse(404, "RevisionNotFound")
        else:
            return repository
        return None

    def _api(self, name: str, verb: str, revision: str) -> None:
        if (repository := self._repository(name, revision)) is None:
            return
        if verb == "tree":
            tree = [_tree_entry(file, path) for file, path in repository.files.items()]
            self._send(json.dumps(tree).encode(), {"Content-Type": "application/json"})
        else:
            siblings = [{"rfilename": file} for file in repository.files]
            facts = {"id": name, "sha": repository.commit, "siblings": siblings}
            self._send(json.dumps(facts).encode(), {"Content-Type": "application/json"})

    def _redirect(self, name: str, file: str, repository: Repository) -> None:
        self.owner.requests.append(f"{self.command} pointer {file}")
        path = repository.files[file]
        headers = {
            "Location": f"{self.owner.url}/storage/{name}/{file}",
            "X-Repo-Commit": repository.commit,
            "X-Linked-Etag": f'"{_sha256(path)}"',
            "X-Linked-Size": str(path.stat().st_size),
        }
        self._send(b"", headers, status=302)

    def _send_file(self, what: str, name: str, file: str) -> None:
        self.owner.requests.append(f"{self.command} {what} {file}")
        repository = self.owner.repositories[name]
        content = repository.files[file].read_bytes()
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{_git_sha1(content)}"'}
        begin = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        if begin.isdigit():
            total = len(content)
            headers["Content-Range"] = f"bytes {begin}-{total - 1}/{total}"
            self._send(content[int(begin) :], headers, status=206)
        else:
            self._send(content, headers)

    def _refuse(self, status: int, code: str) -> None:
        self._send(b"", {"X-Error-Code": code}, status=status)

    def _send(self, body: bytes, headers: Mapping[str, str], *, status: int = 200) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _tree_entry(file: str, path: Path) -> dict[str, object]:
    content = path.read_bytes()
    entry: dict[str, object] = {
        "type": "file",
        "path": file,
        "size": len(content),
        "oid": _git_sha1(content),
    }
    if file.endswith(LARGE):
        entry["lfs"] = {"oid": _sha256(path), "size": len(content), "pointerSize": 134}
    return entry


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _git_sha1(content: bytes) -> str:
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


@dataclass
class HubServer(Loopback):
    """Serves repositories by name ("owner/name") until it is left; notes every request."""

    handler = _Handler

    repositories: dict[str, Repository]
    requests: list[str] = field(default_factory=list)

    def fetched(self) -> set[str]:
        """Names of the files whose content was asked for."""
        marks = ("GET file ", "GET storage ")
        return {r.split(" ", 2)[2] for r in self.requests if r.startswith(marks)}
