"""One file over https into the store: resumed, hashed, looked at, and only then given its name.

What is asked on resume: the first address again, so that a signed one is fresh, with Range and
If-Range (RFC 9110, sections 13.1.5 and 14.2). The status rules are in fetch_status.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from plugins_manifest.fetch_errors import FetchError
from plugins_manifest.http.client import Client, OpenResponse, Token
from plugins_manifest.http.fetch_check import check_file, check_start
from plugins_manifest.http.status import interpret_response
from plugins_manifest.store import Partial, Store, sha256_of_file

MAX_FILE_BYTES = 32 << 30
_PROGRESS_BYTES = 64 << 10  # a broken try that brought this much counts as progress
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class Progress(Protocol):
    """Shows the bytes of one file; called with what comes, and what is there already."""

    def __call__(
        self, name: str, total: int | None, done: int
    ) -> AbstractContextManager[Callable[[int], object]]:
        """A function that takes the number of new bytes."""
        ...


@contextmanager
def no_progress(name: str, total: int | None, done: int) -> Iterator[Callable[[int], object]]:
    """Show nothing."""
    yield lambda n_bytes: None


@dataclass(frozen=True)
class Wanted:
    """One file: `url` is asked first, `fallback_url` once where that has nothing (status 404).

    `sha256` and `size_bytes` are what is expected, None where nobody knows yet; `what` names the
    plugin in messages. A `declared_bytes` is a rough size that protects the disk.
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
        """No more than this is written."""
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


OnMismatch = Callable[[Path, str], FetchError]


def fetch(
    client: Client,
    store: Store,
    wanted: Wanted,
    *,
    progress: Progress = no_progress,
    on_mismatch: OnMismatch | None = None,
) -> Stored:
    """Have a file in the store, downloading what is missing of it.

    Raises `FetchError`; a download that broke off stays as a `.part` for the next call, one with
    wrong content does not. `on_mismatch` may say more about a complete file of another sha256.
    """
    with store.download(wanted.key) as partial:
        found = store.find(wanted.sha256) if wanted.sha256 else None
        if found is not None and wanted.sha256 is not None:
            partial.discard()
            return Stored(found, wanted.sha256, found.stat().st_size)
        job = _Job(client, store, wanted, partial, progress)
        if partial.n_bytes:
            try:
                return job.run(None)
            except FetchError as error:
                if error.code not in ("wrong-hash", "not-a-plugin"):
                    raise  # otherwise the old half may be the wrong one: once more from the start
        return job.run(on_mismatch)


@dataclass
class _Job:
    """One download under its lock."""

    client: Client
    store: Store
    wanted: Wanted
    partial: Partial
    progress: Progress

    def run(self, on_mismatch: OnMismatch | None) -> Stored:
        """Download, check, adopt; a whole part that fails its checks is thrown away."""
        self._complete()
        try:
            return self._adopt(on_mismatch)
        except FetchError as error:
            if error.code != "disk":
                self.partial.discard()
            raise

    def _complete(self) -> None:
        try:
            self.client.patiently(lambda: self._attempt(self.wanted.url))
        except FetchError as error:
            if error.remedy != "file-id" or self.wanted.fallback_url is None:
                raise
            fallback_url = self.wanted.fallback_url
            self.client.patiently(lambda: self._attempt(fallback_url))

    def _adopt(self, on_mismatch: OnMismatch | None) -> Stored:
        part, wanted = self.partial.part, self.wanted
        sha256, size_bytes = sha256_of_file(part), self.partial.n_bytes
        if wanted.sha256 is not None and sha256 != wanted.sha256:
            if on_mismatch is not None:
                raise on_mismatch(part, sha256)
            raise FetchError(
                f"{wanted.what}: the file has sha256 {sha256} instead of {wanted.sha256}: it was "
                "damaged on the way (run the same command again) or changed at its source (then "
                "pin the new one: xbench plugins lock --update)",
                code="wrong-hash",
            )
        check_file(part, what=wanted.what)
        path = self.store.find(sha256) or self.store.adopt(part, sha256)
        self.partial.discard()
        return Stored(path, sha256, size_bytes)

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
            ) as answer:
                self._take(answer, n_before)
        except FetchError as error:
            error.made_progress = self.partial.n_bytes >= n_before + _PROGRESS_BYTES
            raise

    def _resumable_bytes(self) -> int:
        """Bytes to go on from: only where the sha256 or the ETag will notice another file."""
        has_etag = isinstance(self.partial.facts().get("etag"), str)
        if self.wanted.sha256 is None and not has_etag:
            self.partial.discard()
        if self.partial.n_bytes > self.wanted.most_bytes:
            self.partial.discard()
        return self.partial.n_bytes

    def _take(self, answer: OpenResponse, n_before: int) -> None:
        seen = answer.seen
        start, total = _content_range(seen.headers.get("content-range", ""))
        if seen.status == 416:
            if self._is_whole(total, n_before):
                return
            self.partial.discard()
            raise FetchError(
                f"{self.wanted.what}: {seen.host} cannot go on from byte {n_before}: try again",
                code="range",
                remedy="back-off",
                wait_seconds=0.0,
            )
        error = interpret_response(seen)
        if error is not None:
            raise error
        if seen.status == 206 and n_before == 0 and start == 0:
            n_at = 0
        elif seen.status == 206:
            n_at = self._checked_start(answer, n_before, start=start, total=total)
        else:  # 200 to a Range request: the whole file, maybe a new one
            n_at = 0
            total = _number(seen.headers.get("content-length"))
        self._write(answer, n_at, total=total)

    def _is_whole(self, total: int | None, n_before: int) -> bool:
        """After a 416: the part may be complete already."""
        if n_before == 0:
            return False
        if self.wanted.sha256 is not None:
            return sha256_of_file(self.partial.part) == self.wanted.sha256
        return total == n_before == self.partial.facts().get("total")

    def _checked_start(
        self, answer: OpenResponse, n_before: int, *, start: int | None, total: int | None
    ) -> int:
        """The place of a 206's bytes; anything but a seamless continuation restarts."""
        facts, etag = self.partial.facts(), answer.seen.headers.get("etag")
        fits = start == n_before and facts.get("total") in (None, total)
        if fits and etag in (None, facts.get("etag") or etag):
            return n_before
        self.partial.discard()
        raise FetchError(
            f"{self.wanted.what}: the file changed while it was downloaded: try again",
            code="changed",
            remedy="back-off",
            wait_seconds=0.0,
        )

    def _write(self, answer: OpenResponse, n_at: int, *, total: int | None) -> None:
        wanted, seen = self.wanted, answer.seen
        if total is not None and (total > wanted.most_bytes or self._is_other_size(total)):
            raise self._wrong_size(total)
        chunks = answer.chunks
        if n_at == 0:
            check_start(seen.start, total, what=wanted.what)
            etag = seen.headers.get("etag", "")
            is_strong = etag.startswith('"')  # a weak one cannot guard a Range
            self.partial.remember({"etag": etag if is_strong else None, "total": total})
        self.store.need_room((total or n_at) - n_at, what=wanted.what)
        n_bytes = n_at
        with (
            self.partial.part.open("r+b" if n_at else "wb") as part,
            self.progress(wanted.what, total or wanted.size_bytes, n_at) as show,
        ):
            part.seek(n_at)
            for chunk in chunks:
                n_bytes += len(chunk)
                if n_bytes > wanted.most_bytes:
                    raise self._wrong_size(n_bytes)
                part.write(chunk)
                show(len(chunk))
        expected = total if total is not None else wanted.size_bytes
        if expected is not None and n_bytes < expected:
            raise FetchError(
                f"{wanted.what}: {seen.host} closes the connection after {n_bytes} of {expected} "
                "bytes: run the same command again; what was fetched is kept",
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
            "changed there; xbench plugins lock --update pins the new file and says whether only "
            "its metadata changed",
            code="too-large" if wanted.size_bytes is None else "changed",
        )


def _content_range(text: str) -> tuple[int | None, int | None]:
    """First byte and total of a Content-Range; None for what it does not say."""
    match = _CONTENT_RANGE.fullmatch(text.strip())
    return (None, None) if match is None else (_number(match[1]), _number(match[2]))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 20 else None
