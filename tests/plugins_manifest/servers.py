"""A small Civitai over TLS on one loopback address, its storage on another; both can misbehave.

The certificates come from a CA made here. The storage answers 400 to whoever sends Authorization,
as the real one does, and signs its addresses with a number that can be declared expired.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme

from plugins_manifest.http.client import Client
from plugins_manifest.http.download import no_progress
from plugins_manifest.http.hosts import AllowList, HostRule, Token
from plugins_manifest.sources.base import Session
from plugins_manifest.sources.civitai import LOGIN, CivitaiSource
from plugins_manifest.sources.hub import Hub, HubSource
from plugins_manifest.store import Store
from plugins_manifest.supply.resolve import PluginFetcher

TOKEN = "secret-token-0123456789"
SIGNATURE = "deadbeefsignature"
SITE, STORAGE = "civitai.com", "files.r2.cloudflarestorage.com"
OWN_STORAGE = "b2.civitai.com"  # the storage server's other name
SITE_ADDRESS, STORAGE_ADDRESS = "127.0.0.1", "127.0.0.2"


@dataclass(frozen=True)
class Request:
    """A request that a server received."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


Reply = Callable[["Handler", Request], None]


class Handler(BaseHTTPRequestHandler):
    """Records the request and calls the server's next reply."""

    protocol_version = "HTTP/1.1"
    server: TlsServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        headers = {key.lower(): value for key, value in self.headers.items()}
        request = Request(parts.path, parse_qs(parts.query), headers)
        self.server.requests.append(request)
        script = self.server.script
        reply = script.popleft() if script else self.server.reply
        try:
            reply(self, request)
        except OSError:  # the client went away
            self.close_connection = True

    def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json", **(headers or {})}
        self.send(status, json.dumps(data).encode(), kind)

    def hang_up(self) -> None:
        """Close the connection in the middle of things."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class TlsServer(ThreadingHTTPServer):
    """Serves https on one loopback address in threads."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: str, ca: trustme.CA, names: Sequence[str], reply: Reply) -> None:
        super().__init__((address, 0), Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ca.issue_cert(*names).configure_cert(context)
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.reply, self.script = reply, deque[Reply]()
        self.requests: list[Request] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore broken handshakes, which some tests provoke."""


@dataclass
class World:
    """The site, its storage, and clients that trust them."""

    folder: Path
    ca: trustme.CA = field(default_factory=trustme.CA)
    files: dict[str, bytes] = field(default_factory=dict)  # storage name -> content
    versions: dict[int, dict[str, Any]] = field(default_factory=dict)
    models: dict[int, dict[str, Any]] = field(default_factory=dict)
    links: dict[tuple[int, int | None], str] = field(default_factory=dict)
    pauses: list[float] = field(default_factory=list)
    n_signed: int = 0
    n_expired: int = 0  # signatures up to this number are no longer accepted

    def __post_init__(self) -> None:
        self.site = TlsServer(SITE_ADDRESS, self.ca, [SITE, "*." + SITE], self._site)
        self.storage = TlsServer(STORAGE_ADDRESS, self.ca, [STORAGE, OWN_STORAGE], self._storage)
        self.ca_path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_path))

    def close(self) -> None:
        for server in (self.site, self.storage):
            server.shutdown()
            server.server_close()

    @property
    def base_url(self) -> str:
        return f"https://{SITE}:{self.site.port}"

    @property
    def storage_url(self) -> str:
        return f"https://{STORAGE}:{self.storage.port}"

    @property
    def rules(self) -> tuple[HostRule, ...]:
        return (
            HostRule(
                SITE, self.site.port, gets_token=True, networks=(f"{SITE_ADDRESS}/32",), login=LOGIN
            ),
            HostRule(STORAGE, self.storage.port, networks=(f"{STORAGE_ADDRESS}/32",)),
        )

    def resolve(self, host: str, port: int) -> list[str]:
        known = {SITE: SITE_ADDRESS, STORAGE: STORAGE_ADDRESS}
        if host not in known:
            raise OSError("no such host")
        return [known[host]]

    def client(self, **changed: Any) -> Client:
        given: dict[str, Any] = {
            "allow": AllowList(self.rules),
            "resolve": self.resolve,
            "ca": self.ca_path,
            "timeout_seconds": 5.0,
            "sleep": self.pauses.append,
        }
        return Client(**{**given, **changed})

    def supply(
        self, store: Store, *, token: str | None = TOKEN, hub: Hub | None = None
    ) -> PluginFetcher:
        """Return what the command line opens, with these servers instead of the real ones."""
        site = CivitaiSource(self.base_url, lambda: Token(token) if token else None)
        session = Session(self.client(), store, no_progress)
        return PluginFetcher(session, {"urn": site, "hf": HubSource(hub or Hub())})

    def add(self, model_id: int, version_id: int, content: bytes, **changed: Any) -> dict[str, Any]:
        """Publish a version with one file; `changed` overrides fields of the version."""
        file_id = version_id + 500_000
        name = f"{version_id}.bin"
        self.files[name] = content
        self.links[version_id, None] = self.links[version_id, file_id] = name
        self.models.setdefault(
            model_id,
            {
                "id": model_id,
                "name": "Some model",
                "type": "LORA",
                "nsfw": False,
                "allowNoCredit": True,
                "allowCommercialUse": "{Image,RentCivit}",
                "allowDerivatives": True,
                "allowDifferentLicense": False,
            },
        )
        self.versions[version_id] = {
            "id": version_id,
            "modelId": model_id,
            "name": "v1.0",
            "status": "Published",
            "baseModel": "SD 1.5",
            "trainedWords": ["full body, chibi,"],
            "model": {"name": "Some model", "type": "LORA", "nsfw": False, "poi": False},
            "files": [self.file_entry(version_id, file_id, content)],
            **changed,
        }
        return self.versions[version_id]

    def file_entry(self, version_id: int, file_id: int, content: bytes) -> dict[str, Any]:
        return {
            "id": file_id,
            "name": "some model.safetensors",
            "type": "Model",
            "sizeKB": len(content) / 1024,
            "metadata": {"format": "SafeTensor"},
            "pickleScanResult": "Success",
            "hashes": {"SHA256": hashlib.sha256(content).hexdigest().upper()},
            "downloadUrl": f"{self.base_url}/api/download/models/{version_id}",
            "primary": True,
        }

    def _site(self, handler: Handler, request: Request) -> None:
        words = request.path.strip("/").split("/")
        match words:
            case ["api", "v1", "models", number]:
                self._row(handler, self.models.get(int(number)))
            case ["api", "v1", "model-versions", "by-hash", digest]:
                self._row(handler, self._by_hash(digest.lower()))
            case ["api", "v1", "model-versions", number]:
                self._row(handler, self.versions.get(int(number)))
            case ["api", "download", "models", number]:
                self._download(handler, request, int(number))
            case _:
                handler.send_json(404, {"error": "Not found"})

    def _row(self, handler: Handler, row: dict[str, Any] | None) -> None:
        if row is None:
            handler.send_json(404, {"error": "No model with this id"})
        else:
            handler.send_json(200, row)

    def _by_hash(self, digest: str) -> dict[str, Any] | None:
        for row in self.versions.values():
            for file in row["files"]:
                if file["hashes"].get("SHA256", "").lower() == digest:
                    return row
        return None

    def _download(self, handler: Handler, request: Request, version_id: int) -> None:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            if request.headers.get("content-type") == "application/json":
                handler.send_json(401, {"error": "Unauthorized", "message": "log in"})
            else:
                handler.send(302, headers={"Location": "/login?reason=download-auth"})
            return
        file_id = request.query.get("fileId")
        name = self.links.get((version_id, int(file_id[0]) if file_id else None))
        if name is None:
            handler.send_json(404, {"error": "File not found"})
            return
        handler.send(307, headers={"Location": self.signed(name)})

    def signed(self, name: str) -> str:
        self.n_signed += 1
        return f"{self.storage_url}/{name}?X-Amz-Signature={SIGNATURE}-{self.n_signed}"

    def _storage(self, handler: Handler, request: Request) -> None:
        if "authorization" in request.headers:
            handler.send(400, b"<Error><Code>InvalidArgument</Code></Error>")
            return
        signature = request.query.get("X-Amz-Signature", [f"{SIGNATURE}-999999"])[0]
        if int(signature.rpartition("-")[2]) <= self.n_expired:
            handler.send(403, b"<Error><Message>Request has expired</Message></Error>")
            return
        content = self.files.get(request.path.strip("/"))
        if content is None:
            handler.send(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            send_file(handler, request, content)


def etag_of(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def send_file(
    handler: Handler,
    request: Request,
    content: bytes,
    *,
    etag: str | None = None,
    stop_after: int | None = None,
    pause_seconds: float = 0.0,
    piece_bytes: int = 1 << 16,
) -> None:
    """Return a file with Range, If-Range and ETag; may stop or dawdle within the body."""
    etag = etag or etag_of(content)
    start, total = 0, len(content)
    wanted = request.headers.get("range")
    if wanted and request.headers.get("if-range", etag) == etag:
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        if start >= total:
            handler.send(416, headers={"Content-Range": f"bytes */{total}"})
            return
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    handler.send_header("ETag", etag)
    handler.send_header("Content-Type", "application/octet-stream")
    handler.send_header("Content-Length", str(total - start))
    handler.end_headers()
    body = content[start:] if stop_after is None else content[start : start + stop_after]
    for i in range(0, len(body), piece_bytes):
        handler.wfile.write(body[i : i + piece_bytes])
        if pause_seconds:
            handler.wfile.flush()
            time.sleep(pause_seconds)
    if stop_after is not None:
        handler.hang_up()


def safetensors_bytes(
    *, n_floats: int = 50_000, metadata: dict[str, str] | None = None, seed: int = 0
) -> bytes:
    """Return a valid file with one tensor of made-up numbers."""
    payload = hashlib.shake_256(str(seed).encode()).digest(n_floats * 2)
    return with_header({"weight": ("F16", [n_floats], payload)}, metadata=metadata)


def with_header(
    tensors: dict[str, tuple[str, list[int], bytes]], *, metadata: dict[str, str] | None = None
) -> bytes:
    """Return a safetensors file of tensors (dtype, shape, bytes) in the given order."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    payload = b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(payload), len(payload) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        payload += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


def lora_bytes(*, rank: int = 4, alpha: float = 2.0, seed: int = 0, width: int = 768) -> bytes:
    """Return a kohya LoRA of one cross-attention layer of SD1.5 (text width 768)."""
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    numbers = hashlib.shake_256(f"lora {seed}".encode()).digest(rank * (width + 320) * 2)
    half = rank * width * 2
    return with_header(
        {
            f"{name}.lora_down.weight": ("F16", [rank, width], numbers[:half]),
            f"{name}.lora_up.weight": ("F16", [320, rank], numbers[half:]),
            f"{name}.alpha": ("F32", [], struct.pack("<f", alpha)),
        }
    )
