"""Files of one server, whole or in parts: tried again while that may help, never mixed.

Ranges: RFC 9110, section 14. An answer belongs to one state of a file (its ETag and length); a
part of another state is refused, so that no two states end up in one file.
"""

from __future__ import annotations

import io
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import httpx

from plugins_manifest.errors import UserError
from plugins_manifest.fetch_errors import FetchError
from plugins_manifest.http.retry import patiently
from plugins_manifest.http.status import retry_after
from plugins_manifest.redact import guard_logs, redact_text, redact_url

TIMEOUT_SECONDS = 30.0
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
_ON = ("1", "on", "true", "yes")


@dataclass(frozen=True)
class Version:
    """Which state of a file an answer holds: its strong ETag, if any, and its length in bytes."""

    etag: str | None
    n_bytes: int


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in _ON


class Mirror:
    """Fetches files below a base address; `setting` is the variable that names another one.

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
        guard_logs()
        self.base_url, self.setting = base_url.rstrip("/"), setting
        self._sleep, self._max_tries = sleep, max_tries
        try:
            is_web = httpx.URL(self.base_url).scheme in ("http", "https")
        except httpx.InvalidURL:
            is_web = False
        if not is_web:
            raise UserError(f"{setting} is {base_url!r}: write an https:// or http:// address")
        headers = {"Accept-Encoding": "identity", "User-Agent": "xbench"}
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=True, headers=headers)

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
        """A whole file of at most `most_bytes`; `FetchError` where it cannot be had."""

        def attempt() -> bytes:
            with self._open(name, {}) as answer:
                body = io.BytesIO()
                for chunk in answer.iter_raw():
                    body.write(chunk)
                    if body.tell() > most_bytes:
                        raise FetchError(
                            f"{self.shown(name)} has more than {most_bytes >> 20} MiB: this is not "
                            f"the file; check {self.setting}",
                            code="too-large",
                        )
                return body.getvalue()

        return patiently(attempt, max_tries=self._max_tries, sleep=self._sleep)

    def end_of(self, name: str, n_bytes: int) -> tuple[Version, bytes]:
        """The state of a file and its last bytes; `FetchError` also where ranges do not work."""

        def attempt() -> tuple[Version, bytes]:
            with self._open(name, {"Range": f"bytes=-{n_bytes}"}) as answer:
                start, version = self._place(answer, name)
                content = b"".join(answer.iter_raw())
                self._check_length(name, len(content), version.n_bytes - start)
                return version, content

        return patiently(attempt, max_tries=self._max_tries, sleep=self._sleep)

    def part(
        self,
        name: str,
        start: int,
        stop: int,
        *,
        version: Version,
        take: Callable[[bytes], object],
    ) -> None:
        """Give the bytes [start, stop) of this state of a file to `take`, in order, each once.

        A connection that breaks is taken up where it broke. Raises `FetchError`.
        """
        at = start

        def attempt() -> None:
            nonlocal at
            began = at
            wanted = {"Range": f"bytes={at}-{stop - 1}"}
            if version.etag:
                wanted["If-Range"] = version.etag
            try:
                with self._open(name, wanted) as answer:
                    found, state = self._place(answer, name, expected=version)
                    if (found, state) != (at, version):
                        raise self._changed(name)
                    for chunk in answer.iter_raw():
                        take(chunk[: stop - at])
                        at += min(len(chunk), stop - at)
                self._check_length(name, at, stop)
            except FetchError as error:
                error.made_progress = at > began
                raise

        if start < stop:
            patiently(attempt, max_tries=self._max_tries, sleep=self._sleep)

    def shown(self, name: str) -> str:
        """The address as messages may show it."""
        return redact_url(f"{self.base_url}/{name}")

    @contextmanager
    def _open(self, name: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """An answer with status 200 or 206; `FetchError` for every other, and for breaks inside."""
        try:
            with self._client.stream("GET", f"{self.base_url}/{name}", headers=headers) as answer:
                if answer.status_code not in (200, 206):
                    raise self._refused(answer, name)
                yield answer
        except (httpx.TransportError, httpx.TooManyRedirects, httpx.InvalidURL) as error:
            raise self._broken(error, name) from None

    def _refused(self, answer: httpx.Response, name: str) -> FetchError:
        said, status = f"{self.shown(name)} answers status {answer.status_code}", answer.status_code
        if status == 429 or status >= 500:
            return FetchError(
                f"{said}: the server is busy or broken; run the same command later, or name a "
                f"mirror with {self.setting}",
                code="busy",
                remedy="back-off",
                wait_seconds=retry_after(answer.headers),
            )
        if status in (404, 410):
            return FetchError(
                f"{said}: there is no such file; is {self.setting} right?", code="missing"
            )
        return FetchError(f"{said}: name a mirror with {self.setting}", code="refused")

    def _broken(self, error: Exception, name: str) -> FetchError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return FetchError(
                    f"{self.shown(name)}: the certificate is not trusted ({cause.verify_message}): "
                    f"set SSL_CERT_FILE, or name another address with {self.setting}",
                    code="unreachable",
                )
            cause = cause.__cause__ or cause.__context__
        return FetchError(
            f"{self.shown(name)} cannot be reached ({redact_text(str(error)) or 'it broke'}): "
            f"check the network, or name a mirror with {self.setting}; then run the same command "
            "again, what was fetched is kept",
            code="unreachable",
            remedy="back-off" if isinstance(error, httpx.TransportError) else "none",
        )

    def _place(
        self, answer: httpx.Response, name: str, *, expected: Version | None = None
    ) -> tuple[int, Version]:
        """First byte and state of a partial answer."""
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", "").strip())
        if answer.status_code == 200 and expected is not None and expected.etag:
            raise self._changed(name)  # what If-Range asks for
        if answer.status_code != 206 or match is None:
            raise FetchError(
                f"{self.shown(name)}: the server sends whole files only (no ranges): name another "
                f"one with {self.setting}",
                code="range",
            )
        etag = answer.headers.get("etag", "")
        strong = etag if etag.startswith('"') else None
        if expected is not None and not strong:
            strong = expected.etag  # a server may leave it out of a part
        return int(match[1]), Version(strong, int(match[3]))

    def _check_length(self, name: str, found: int, expected: int) -> None:
        if found < expected:
            raise FetchError(
                f"{self.shown(name)}: the answer ends {expected - found} bytes too early: run the "
                "same command again",
                code="unreachable",
                remedy="back-off",
            )

    def _changed(self, name: str) -> FetchError:
        return FetchError(
            f"{self.shown(name)} changed while it was read: run the same command again",
            code="changed",
        )


class RangedFile(io.RawIOBase):
    """A remote file to read and seek in; what is in `held` (start -> bytes) is not asked for."""

    def __init__(
        self, mirror: Mirror, name: str, version: Version, held: Mapping[int, bytes]
    ) -> None:
        super().__init__()
        self._mirror, self._name, self._version = mirror, name, version
        self._held = dict(held)
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; reading behind the end gives nothing."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._version.n_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"there is no byte {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Fill the buffer, or as much of it as there is; 0 at the end."""
        stop = min(self._at + len(buffer), self._version.n_bytes)
        if stop <= self._at:
            return 0
        content = self._from_held(stop)
        if content is None:
            body = bytearray()
            self._mirror.part(self._name, self._at, stop, version=self._version, take=body.extend)
            content = bytes(body)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def _from_held(self, stop: int) -> bytes | None:
        for start, content in self._held.items():
            if start <= self._at < start + len(content):
                return content[self._at - start : stop - start]
        return None
