"""Files of one server, whole or in ranges; parts of two versions of a file are never mixed.

Ranges: RFC 9110, section 14. A response belongs to one version of a file (its ETag and length); a
part of another version is refused, so that no two end up in one file.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.http.client import Client, OpenResponse
from plugins_manifest.http.status import Response, interpret_response
from plugins_manifest.redact import redact_url

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
PROGRESS_BYTES = 64 << 10  # an attempt that received this much counts as progress
_ON = ("1", "on", "true", "yes")


@dataclass(frozen=True)
class FileVersion:
    """One version of a remote file: its strong ETag, if any, and its length in bytes."""

    etag: str | None
    n_bytes: int


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in _ON


class Mirror:
    """Downloads files below a base address; `setting` is the variable that replaces it.

    Proxies and certificates come from the environment (HTTPS_PROXY, SSL_CERT_FILE). Several threads
    may share one. Close it, or use `with`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        setting: str,
        sleep: Callable[[float], None] = time.sleep,
        max_tries: int = 4,
    ) -> None:
        self.base_url, self.setting = base_url.rstrip("/"), setting
        try:
            is_web = urlsplit(self.base_url).scheme in ("http", "https")
        except ValueError:
            is_web = False
        if not is_web:
            raise UserError(f"{setting} is {base_url!r}: write an https:// or http:// address")
        self._client = Client(
            allow=None, advice=f"name a mirror with {setting}", max_tries=max_tries, sleep=sleep
        )

    def __enter__(self) -> Mirror:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def get(self, name: str, *, most_bytes: int) -> bytes:
        """Return a whole file of at most `most_bytes`; `FetchError` otherwise."""
        return self._client.get(
            f"{self.base_url}/{name}", what=self.display_url(name), most_bytes=most_bytes
        )

    def read_end(self, name: str, n_bytes: int) -> tuple[FileVersion, bytes]:
        """Return a file's version and its last bytes; `FetchError` also without ranges."""

        def attempt() -> tuple[FileVersion, bytes]:
            with self._open(name, {"Range": f"bytes=-{n_bytes}"}) as opened:
                start, version = self._part(opened.response, name)
                content = b""
                for chunk in opened.chunks:
                    content += chunk
                    if len(content) > n_bytes:
                        raise FetchError(
                            f"{self.display_url(name)}: the server sends more than the "
                            f"{n_bytes:,} bytes of the range: name another one with "
                            f"{self.setting}",
                            code="range",
                        )
                self._check_length(name, len(content), version.n_bytes - start)
                return version, content

        return self._client.retry(attempt)

    def read_range(
        self,
        name: str,
        start: int,
        stop: int,
        *,
        version: FileVersion,
        take: Callable[[bytes], object],
    ) -> None:
        """Pass the bytes [start, stop) of this version of a file to `take`, in order, each once.

        A broken connection is resumed where it broke. Raises `FetchError`.
        """
        at = start

        def attempt() -> None:
            nonlocal at
            began = at
            headers = {"Range": f"bytes={at}-{stop - 1}"}
            if version.etag:
                headers["If-Range"] = version.etag
            try:
                with self._open(name, headers) as opened:
                    if self._part(opened.response, name, expected=version) != (at, version):
                        raise self._changed(name)
                    for chunk in opened.chunks:
                        take(chunk[: stop - at])
                        at += min(len(chunk), stop - at)
                        if at >= stop:
                            break
                self._check_length(name, at, stop)
            except FetchError as error:
                error.made_progress = at >= min(began + PROGRESS_BYTES, stop)
                raise

        if start < stop:
            self._client.retry(attempt)

    def display_url(self, name: str) -> str:
        """Return the address without secrets, for messages."""
        return redact_url(f"{self.base_url}/{name}")

    @contextmanager
    def _open(self, name: str, headers: Mapping[str, str]) -> Iterator[OpenResponse]:
        """Yield a response with status 200 or 206; raise `FetchError` for every other."""
        url, what = f"{self.base_url}/{name}", self.display_url(name)
        with self._client.open(url, what=what, headers=headers) as opened:
            if (error := interpret_response(opened.response)) is not None:
                raise error
            yield opened

    def _part(
        self, response: Response, name: str, *, expected: FileVersion | None = None
    ) -> tuple[int, FileVersion]:
        """Return first byte and version of a partial response."""
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
        if response.status == 200 and expected is not None and expected.etag:
            raise self._changed(name)  # If-Range answers 200 for another version
        if response.status != 206 or match is None:
            raise FetchError(
                f"{self.display_url(name)}: the server does not support ranges: name "
                f"another one with {self.setting}",
                code="range",
            )
        etag = response.headers.get("etag", "")
        strong = etag if etag.startswith('"') else None
        if expected is not None and not strong:
            strong = expected.etag  # a server may leave it out of a part
        return int(match[1]), FileVersion(strong, int(match[3]))

    def _check_length(self, name: str, found: int, expected: int) -> None:
        if found < expected:
            raise FetchError(
                f"{self.display_url(name)}: the response ends {expected - found} bytes too early: "
                "run the same command again",
                code="unreachable",
                remedy="back-off",
            )

    def _changed(self, name: str) -> FetchError:
        return FetchError(
            f"{self.display_url(name)} changed while it was read: run the same command again",
            code="changed",
        )


class RangedFile(io.RawIOBase):
    """A remote file to read and seek in; bytes in `held` (start -> bytes) are not requested."""

    def __init__(
        self, mirror: Mirror, name: str, version: FileVersion, held: Mapping[int, bytes]
    ) -> None:
        super().__init__()
        self._mirror, self._name, self._version = mirror, name, version
        self._held = dict(held)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._version.n_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Fill the buffer as far as the file reaches; return 0 at its end."""
        stop = min(self._at + len(buffer), self._version.n_bytes)
        if stop <= self._at:
            return 0
        content = self._from_held(stop)
        if content is None:
            body = bytearray()
            self._mirror.read_range(
                self._name, self._at, stop, version=self._version, take=body.extend
            )
            content = bytes(body)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def _from_held(self, stop: int) -> bytes | None:
        for start, content in self._held.items():
            if start <= self._at < start + len(content):
                return content[self._at - start : stop - start]
        return None
