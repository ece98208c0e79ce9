"""Resumable downloads: received in parts, checked whole, and only then given a final name.

A resumed download requests the first address again, so that a signed one is fresh, with Range and
If-Range (RFC 9110, sections 13.1.5 and 14.2). `download` is for any file, `fetch` for plugins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.files import file_sha256
from plugins_manifest.formats import read_header
from plugins_manifest.formats.magic import PICKLED, sniff_bytes
from plugins_manifest.formats.reasons import UNSAFE
from plugins_manifest.http.client import Client, OpenResponse
from plugins_manifest.http.hosts import Token
from plugins_manifest.http.ranged import PROGRESS_BYTES
from plugins_manifest.http.status import Response, interpret_response
from plugins_manifest.store import Partial, Store

MAX_FILE_BYTES = 32 << 30
_MAX_RESTARTS = 5  # a file that changes with every attempt would never end
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_PICKLE_HINT = (
    "; download it yourself, run: xbench plugins convert FILE NEW, and give the new file's path "
    "as the source"
)
T = TypeVar("T")


class Progress(Protocol):
    """Displays the progress of one file."""

    def __call__(
        self, name: str, total: int | None, done: int
    ) -> AbstractContextManager[Callable[[int], object]]:
        """Return a context whose value takes the number of new bytes; `done` are there already."""
        ...


@contextmanager
def no_progress(name: str, total: int | None, done: int) -> Iterator[Callable[[int], object]]:
    """Display nothing."""
    yield lambda n_bytes: None


@dataclass(frozen=True)
class Wanted:
    """One file to download from `url`, or once from `fallback_url` after a status 404.

    `what` names it in messages. `sha256` is the expected hash (for `download` its published
    beginning is enough), `size_bytes` the exact size, `declared_bytes` a rough one that protects
    the disk; None if unknown.
    """

    what: str
    url: str
    fallback_url: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    declared_bytes: int | None = None
    token: Token | None = None

    @property
    def key(self) -> str:
        """What two processes must agree on to share the download."""
        return self.sha256 or self.url.partition("#")[0]

    @property
    def most_bytes(self) -> int:
        """The most bytes that are written."""
        if self.size_bytes is not None:
            return self.size_bytes
        if self.declared_bytes is not None:
            return min(MAX_FILE_BYTES, self.declared_bytes + self.declared_bytes // 8 + (1 << 20))
        return MAX_FILE_BYTES


@dataclass(frozen=True)
class Stored:
    """A file in the store."""

    path: Path
    sha256: str
    size_bytes: int


CheckStart = Callable[[bytes, int | None], None]  # first bytes and total size
OnMismatch = Callable[[Path, str], FetchError]  # whole file and its sha256


def fetch(
    client: Client,
    store: Store,
    wanted: Wanted,
    *,
    progress: Progress = no_progress,
    on_mismatch: OnMismatch | None = None,
) -> Stored:
    """Ensure that a safetensors file is in the store, downloading what is missing of it.

    Raises `FetchError`; an interrupted download stays as a `.part` for the next call, one with
    wrong content does not. `on_mismatch` makes the error for a whole file of another sha256.
    """

    def check(start: bytes, total: int | None) -> None:
        check_start(start, total, what=wanted.what)

    def accept(part: Path) -> Stored:
        sha256, size_bytes = file_sha256(part), part.stat().st_size
        if wanted.sha256 is not None and sha256 != wanted.sha256:
            raise on_mismatch(part, sha256) if on_mismatch else _other_hash(wanted, sha256)
        check_file(part, what=wanted.what)
        return Stored(store.find(sha256) or store.adopt(part, sha256), sha256, size_bytes)

    with store.download(wanted.key) as partial:
        found = store.find(wanted.sha256) if wanted.sha256 else None
        if found is not None and wanted.sha256 is not None:
            partial.discard()
            return Stored(found, wanted.sha256, found.stat().st_size)
        return download(
            client, store, wanted, partial, accept, progress=progress, check_start=check
        )


def download(
    client: Client,
    store: Store,
    wanted: Wanted,
    partial: Partial,
    accept: Callable[[Path], T],
    *,
    progress: Progress = no_progress,
    check_start: CheckStart = lambda start, total: None,
) -> T:
    """Complete a partial download and return what `accept` makes of the whole file.

    `accept` raises `FetchError` for wrong content and moves the file otherwise. The caller holds
    `partial` (`Store.download`); `check_start` may refuse the first bytes before one is written.
    """
    transfer = _Transfer(client, store, wanted, partial, progress, check_start)
    is_resumed = partial.n_bytes > 0
    try:
        return transfer.run(accept)
    except FetchError as error:
        if not is_resumed or error.code not in ("wrong-hash", "not-a-plugin"):
            raise
    return transfer.run(accept)  # the old part may be of another file: again from the start


def check_start(start: bytes, total: int | None, *, what: str) -> None:
    """Raise `FetchError` unless a file's first bytes may be those of a safetensors file."""
    kind = sniff_bytes(start, MAX_FILE_BYTES if total is None else total)
    if kind != "safetensors":
        hint = _PICKLE_HINT if kind in PICKLED else ""
        raise FetchError(f"{what}: {UNSAFE[kind]}{hint}", code="not-a-plugin")


def check_file(path: Path, *, what: str) -> None:
    """Raise `FetchError` unless a whole file has a valid safetensors header."""
    try:
        read_header(path)
    except UserError as error:
        raise FetchError(f"{what}: {error}", code="not-a-plugin") from error


def _other_hash(wanted: Wanted, sha256: str) -> FetchError:
    return FetchError(
        f"{wanted.what}: the file has sha256 {sha256} instead of {wanted.sha256}: it was "
        "damaged on the way (run the same command again) or changed at its source (then "
        "pin the new one: xbench plugins lock --update)",
        code="wrong-hash",
    )


@dataclass
class _Transfer:
    """One download under its lock."""

    client: Client
    store: Store
    wanted: Wanted
    partial: Partial
    progress: Progress
    check_start: CheckStart
    n_restarts: int = 0

    def run(self, accept: Callable[[Path], T]) -> T:
        """Download, check and accept; a whole file that fails its checks is deleted."""
        self._complete()
        try:
            accepted = accept(self.partial.part)
        except FetchError as error:
            if error.code != "disk":
                self.partial.discard()
            raise
        self.partial.discard()
        return accepted

    def _complete(self) -> None:
        try:
            self.client.retry(lambda: self._attempt(self.wanted.url))
        except FetchError as error:
            if error.remedy != "file-id" or self.wanted.fallback_url is None:
                raise
            fallback_url = self.wanted.fallback_url
            self.client.retry(lambda: self._attempt(fallback_url))

    def _attempt(self, url: str) -> None:
        n_before = self._resumable_bytes()
        headers = {}
        if n_before:
            headers["Range"] = f"bytes={n_before}-"
            etag = self.partial.facts().get("etag")
            if isinstance(etag, str):
                headers["If-Range"] = etag
        try:
            with self.client.open(
                url, what=self.wanted.what, token=self.wanted.token, headers=headers
            ) as opened:
                self._receive(opened, n_before)
        except FetchError as error:
            error.made_progress = self.partial.n_bytes >= n_before + PROGRESS_BYTES
            raise

    def _resumable_bytes(self) -> int:
        """Return the bytes to resume from; 0 unless a hash or an ETag would reveal another file."""
        has_etag = isinstance(self.partial.facts().get("etag"), str)
        if not self.wanted.sha256 and not has_etag:
            self.partial.discard()
        if self.partial.n_bytes > self.wanted.most_bytes:
            self.partial.discard()
        return self.partial.n_bytes

    def _receive(self, opened: OpenResponse, n_before: int) -> None:
        """Interpret a response and write its body where it belongs."""
        response = opened.response
        start, total = _content_range(response.headers.get("content-range", ""))
        if response.status == 416:
            if self._is_whole(total, n_before):
                return
            raise self._restart(f"{response.host} cannot resume from byte {n_before}", "range")
        error = interpret_response(response)
        if error is not None:
            raise error
        n_at = 0
        if response.status != 206:  # 200 to a Range request: the whole file, maybe a new one
            total = _number(response.headers.get("content-length"))
        elif n_before or start != 0:
            n_at = self._checked_start(response, n_before, start=start, total=total)
        self._write(opened, n_at, total=total)

    def _is_whole(self, total: int | None, n_before: int) -> bool:
        """Return whether the part that got a status 416 is the complete file."""
        if n_before == 0:
            return False
        if self.wanted.sha256:
            return file_sha256(self.partial.part).startswith(self.wanted.sha256)
        return total == n_before == self.partial.facts().get("total")

    def _checked_start(
        self, response: Response, n_before: int, *, start: int | None, total: int | None
    ) -> int:
        """Return where a 206's bytes belong; anything but a seamless continuation restarts."""
        facts, etag = self.partial.facts(), response.headers.get("etag")
        fits = start == n_before and facts.get("total") in (None, total)
        if fits and etag in (None, facts.get("etag") or etag):
            return n_before
        raise self._restart("the file changed while it was downloaded", "changed")

    def _restart(self, problem: str, code: Literal["range", "changed"]) -> FetchError:
        """Discard the part; return an error that is retried at once."""
        self.partial.discard()
        self.n_restarts += 1
        return FetchError(
            f"{self.wanted.what}: {problem}: try again",
            code=code,
            remedy="back-off" if self.n_restarts <= _MAX_RESTARTS else "none",
            wait_seconds=0.0,
        )

    def _write(self, opened: OpenResponse, n_at: int, *, total: int | None) -> None:
        wanted, response = self.wanted, opened.response
        if total is not None and (total > wanted.most_bytes or self._is_other_size(total)):
            raise self._wrong_size(total)
        if n_at == 0:
            self.check_start(response.start, total)
            etag = response.headers.get("etag", "")
            is_strong = etag.startswith('"')  # a weak one cannot guard a Range
            self.partial.remember({"etag": etag if is_strong else None, "total": total})
        self.store.need_room((total or n_at) - n_at, what=wanted.what)
        n_bytes = n_at
        with (
            self.partial.part.open("r+b" if n_at else "wb") as part,
            self.progress(wanted.what, total or wanted.size_bytes, n_at) as advance,
        ):
            part.seek(n_at)
            for chunk in opened.chunks:
                n_bytes += len(chunk)
                if n_bytes > wanted.most_bytes:
                    raise self._wrong_size(n_bytes)
                part.write(chunk)
                advance(len(chunk))
        expected = total if total is not None else wanted.size_bytes
        if expected is not None and n_bytes < expected:
            raise FetchError(
                f"{wanted.what}: {response.host} closes the connection after {n_bytes} of "
                f"{expected} bytes: run the same command again; downloaded parts are kept",
                code="unreachable",
                remedy="back-off",
            )

    def _is_other_size(self, total: int) -> bool:
        return self.wanted.size_bytes is not None and total != self.wanted.size_bytes

    def _wrong_size(self, n_bytes: int) -> FetchError:
        self.partial.discard()
        wanted = self.wanted
        expected = wanted.size_bytes if wanted.size_bytes is not None else wanted.declared_bytes
        known = f"{expected}" if expected is not None else f"at most {wanted.most_bytes}"
        return FetchError(
            f"{wanted.what}: the source sends {n_bytes} bytes or more instead of {known}: it "
            "changed there; xbench plugins lock --update pins the new file and reports whether "
            "only its metadata changed",
            code="too-large" if wanted.size_bytes is None else "changed",
        )


def _content_range(text: str) -> tuple[int | None, int | None]:
    """Parse first byte and total of a Content-Range; None for missing parts."""
    match = _CONTENT_RANGE.fullmatch(text.strip())
    return (None, None) if match is None else (_number(match[1]), _number(match[2]))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None
