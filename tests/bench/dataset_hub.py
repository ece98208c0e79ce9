"""A small Hub with one dataset that can be committed to, over plain HTTP.

Speaks what huggingface_hub asks for: upload modes, the LFS batch and its storage, one commit of
many files, the tree, and files (large ones by a redirect to the storage).
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.loopback import Loopback, Quiet

TOKEN = "hf_publisher0123456789"
REPOSITORY = "org/board"
_COMMIT = "c" * 40
_LARGE = (".parquet", ".webp", ".png")


class _Handler(Quiet, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.owner.requests.append(f"GET {path}")
        tree = f"api/datasets/{REPOSITORY}/tree/main/"
        files = f"datasets/{REPOSITORY}/resolve/main/"
        if path.startswith(tree):
            self._tree(path.removeprefix(tree))
        elif path.startswith(files):
            self._file(path.removeprefix(files))
        elif path.startswith("storage/"):
            self._send(200, self.owner.storage[path.removeprefix("storage/")])
        else:
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})

    def do_POST(self) -> None:
        path = urlsplit(self.path).path.strip("/")
        self.owner.requests.append(f"POST {path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(403, b"{}")
        elif path == f"api/datasets/{REPOSITORY}/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [
                {"path": n, "uploadMode": _mode(n), "shouldIgnore": False, "oid": None}
                for n in names
            ]
            self._send_json({"files": modes})
        elif path == f"datasets/{REPOSITORY}.git/info/lfs/objects/batch":
            self._batch(json.loads(body)["objects"])
        elif path == f"api/datasets/{REPOSITORY}/commit/main":
            self._commit([json.loads(line) for line in body.splitlines()])
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def do_PUT(self) -> None:
        oid = urlsplit(self.path).path.removeprefix("/storage/")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(content).hexdigest() == oid
        self.owner.requests.append(f"PUT {oid}")
        self.owner.storage[oid] = content
        self._send(200, b"")

    def _tree(self, folder: str) -> None:
        entries = [
            {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
            for name, content in self.owner.files.items()
            if name.startswith(folder + "/")
        ]
        if entries:
            self._send_json(entries)
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _file(self, name: str) -> None:
        content = self.owner.files.get(name)
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif name.endswith(_LARGE):
            place = f"{self.owner.url}/storage/{hashlib.sha256(content).hexdigest()}"
            self._send(302, b"", {"Location": place})
        else:
            self._send(200, content)

    def _batch(self, objects: list[dict[str, Any]]) -> None:
        answers = []
        for wanted in objects:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.owner.storage:
                place = {"href": f"{self.owner.url}/storage/{wanted['oid']}"}
                answer["actions"] = {"upload": place}
            answers.append(answer)
        self._send_json({"transfer": "basic", "objects": answers})

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        owner = self.owner
        owner.commit_asked.set()
        owner.may_commit.wait()
        fresh = {}
        for line in lines[1:]:
            value = line["value"]
            is_large = line["key"] == "lfsFile"
            content = owner.storage[value["oid"]] if is_large else b64(value["content"])
            fresh[value["path"]] = content
        owner.files = {**owner.files, **fresh}
        owner.commits.append(lines[0]["value"]["summary"])
        self._send_json(
            {
                "commitUrl": f"{owner.url}/datasets/{REPOSITORY}/commit/{_COMMIT}",
                "commitOid": _COMMIT,
            }
        )

    def _send_json(self, data: Any) -> None:
        self._send(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        try:
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the client was killed
            self.close_connection = True


def b64(text: str) -> bytes:
    """Return the bytes of base64."""
    return base64.b64decode(text)


def _mode(name: str) -> str:
    return "lfs" if name.endswith(_LARGE) else "regular"


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@dataclass
class DatasetHub(Loopback):
    """The dataset `REPOSITORY` at its last commit; a commit can be held back with `may_commit`."""

    handler = _Handler

    files: dict[str, bytes] = field(default_factory=dict)
    storage: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    may_commit: threading.Event = field(default_factory=threading.Event)
    commit_asked: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_commit.set()
