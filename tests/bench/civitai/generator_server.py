"""A small stand-in for Civitai's hosted generator: jobs over HTTP that finish after some asking."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from tests.loopback import Loopback, Quiet

TOKEN = "buzz-token-0123456789"


class _Handler(Quiet, BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        if self._is_refused():
            return
        state = self.owner
        length = int(self.headers["Content-Length"])
        state.jobs.append(json.loads(self.rfile.read(length)))
        token = f"job-{len(state.jobs)}"
        state.polls[token] = 0
        self._send_json({"token": token, "jobs": [{"jobId": token, "cost": 4.0}]})

    def do_GET(self) -> None:
        parts, state = urlsplit(self.path), self.owner
        if parts.path == "/picture":
            self._send(state.picture, "image/jpeg")
            return
        if self._is_refused():
            return
        token = parse_qs(parts.query)["token"][0]
        state.polls[token] += 1
        result = None
        if state.polls[token] >= state.n_polls:
            result = {"blobUrl": f"{state.url}/picture?X-Amz-Signature=abc", "available": True}
        job = {"jobId": token, "cost": 4.0, "result": result, "scheduled": result is None}
        self._send_json({"token": token, "jobs": [job]})

    def _is_refused(self) -> bool:
        state = self.owner
        state.authorizations.add(self.headers.get("Authorization"))
        if state.status is not None:
            self.send_error(state.status)
        return state.status is not None

    def _send_json(self, data: dict[str, Any]) -> None:
        self._send(json.dumps(data).encode(), "application/json")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@dataclass
class GeneratorServer(Loopback):
    """Records the posted jobs; each is finished at the `n_polls`-th poll.

    `status` refuses every request where it is not None; `picture` is what a finished job gives.
    """

    handler = _Handler

    n_polls: int = 2
    status: int | None = None
    picture: bytes = b""
    jobs: list[dict[str, Any]] = field(default_factory=list)
    polls: dict[str, int] = field(default_factory=dict)
    authorizations: set[str | None] = field(default_factory=set)

    def __post_init__(self) -> None:
        out = io.BytesIO()
        Image.new("RGB", (8, 8), (200, 10, 10)).save(out, "JPEG")
        self.picture = out.getvalue()
