"""COCO's server on one loopback address: the zip of annotations and photos, with ranges.

It misbehaves on demand: each entry of `replies` replaces the reply to one request.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

MEMBERS = (
    "instances_train2017",
    "instances_val2017",
    "captions_train2017",
    "captions_val2017",
    "person_keypoints_train2017",
    "person_keypoints_val2017",
)
ARCHIVE = "/annotations/annotations_trainval2017.zip"
SIZE_PX = (48, 32)
Reply = Callable[["Handler"], None]


def jpeg(number: int, size_px: tuple[int, int] = SIZE_PX) -> bytes:
    """Return a photo of one color."""
    stream = io.BytesIO()
    Image.new("RGB", size_px, (number % 256, 40, 90)).save(stream, "JPEG")
    return stream.getvalue()


def captions(image_ids: Sequence[int]) -> bytes:
    """Return a captions file: two captions for each image, the later one first."""
    width, height = SIZE_PX
    data = {
        "images": [
            {"id": i, "file_name": f"{i:012d}.jpg", "width": width, "height": height}
            for i in image_ids
        ],
        "annotations": [
            {
                "id": 2 * i + later,
                "image_id": i,
                "caption": f"{'late' if later else 'a'}  cat {i}\n",
            }
            for later in (1, 0)
            for i in image_ids
        ],
    }
    return json.dumps(data).encode()


def archive(content: bytes, *, filler_bytes: int = 200_000) -> bytes:
    """Return a zip with the official one's members; all but the captions are noise."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as book:
        for name in MEMBERS:
            noise = hashlib.shake_256(name.encode()).digest(filler_bytes)
            book.writestr(
                f"annotations/{name}.json", content if name == "captions_val2017" else noise
            )
    return stream.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Replies with the server's files."""

    protocol_version = "HTTP/1.1"
    server: CocoServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.requested.append((self.path, self.headers.get("Range")))
        reply = self.server.replies.popleft() if self.server.replies else Handler.send_file
        reply(self)

    def send_status(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()

    def send_file(self, *, stop_after: int | None = None, ranges: bool = True) -> None:
        """Send the file or the requested part of it; with `stop_after` hang up within it."""
        content = self.server.files.get(self.path)
        if content is None:
            self.send_status(404)
            return
        start, stop = self._range(content) if ranges else (0, len(content))
        etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        if self.headers.get("If-Range", etag) != etag:
            start, stop, ranges = 0, len(content), False
        is_part = ranges and "Range" in self.headers
        self.send_response(206 if is_part else 200)
        if is_part:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        if self.server.has_etags:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        body = content[start:stop]
        self.wfile.write(body if stop_after is None else body[:stop_after])
        self.server.n_bytes_sent += len(body)
        if stop_after is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()

    def _range(self, content: bytes) -> tuple[int, int]:
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            return 0, len(content)
        first, last = match.groups()
        if not first:
            return max(0, len(content) - int(last)), len(content)
        return int(first), min(int(last) + 1, len(content))

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class CocoServer(ThreadingHTTPServer):
    """`files` by path; `requested` records (path, Range) of every request."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, image_ids: Sequence[int] = (139, 285, 632, 724)) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"/val2017/{i:012d}.jpg": jpeg(i) for i in image_ids}
        self.captions = captions(image_ids)
        self.files[ARCHIVE] = archive(self.captions)
        self.replies: deque[Reply] = deque()
        self.requested: list[tuple[str, str | None]] = []
        self.n_bytes_sent = 0
        self.has_etags = True
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what some tests want."""
