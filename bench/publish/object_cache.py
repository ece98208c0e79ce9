"""Objects of published stores: verified when read, tables cached as files on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import get_args

from bench.errors import UserError
from bench.publish.base import StoreLocation
from bench.publish.format import Ending, file_inside, is_content, is_object
from bench.store.files import write_bytes

MAX_CACHE_BYTES = 8 << 30
_IN_USE_SECONDS = 3600  # a file touched since may be open


def read_object(place: StoreLocation, name: str, limit_bytes: int) -> bytes:
    """Return an object of a store; raise `UserError` if it is missing or not what it is named."""
    content = place.read(name, limit_bytes=limit_bytes)
    if content is None:
        raise UserError(f"{name} is not in the store")
    if not is_content(name, content):
        raise UserError(f"the content of {name} does not match its name")
    return content


class TableCache:
    """Content-addressed cache folder for tables of published stores.

    `source` is the folder of a local store, whose files are read in place.
    """

    def __init__(
        self, folder: Path, *, source: Path | None = None, max_bytes: int = MAX_CACHE_BYTES
    ) -> None:
        self._folder, self._source, self._max_bytes = folder, source, max_bytes
        self._checked: dict[str, tuple[Path, tuple[int, int] | None]] = {}
        self._lock = Lock()

    def path(self, name: str, content: Callable[[], bytes]) -> Path:
        """Return the object's file; calls `content` if it is not cached. `UserError` as `content`.

        The sha256 of a file is verified on first use, and again after the file has changed.
        """
        known = self._checked.get(name)
        if known is not None and _state(known[0]) == known[1]:
            return known[0]
        path = self._cached(name)
        if path is None:
            fresh = content()
            if self._source is not None:
                path = file_inside(self._source, name)
            if path is None:
                path = self._folder / name
                write_bytes(path, fresh)
                self._prune()
        else:
            os.utime(path)
        self._checked[name] = (path, _state(path))
        return path

    def _cached(self, name: str) -> Path | None:
        """Return the cached file if its content matches its name."""
        path = self._folder / name
        if self._source is not None or not path.is_file():
            return None
        return path if is_content(name, path.read_bytes()) else None

    def _prune(self) -> None:
        """Remove the least recently used files until the folder fits into `max_bytes`."""
        with self._lock:
            files = [path for path in self._folder.rglob("*") if self._is_own(path)]
            states = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in files)
            excess = sum(size for _, size, _ in states) - self._max_bytes
            for used, size, path in states:
                if excess <= 0 or used > time.time() - _IN_USE_SECONDS:
                    break
                path.unlink(missing_ok=True)
                excess -= size

    def _is_own(self, path: Path) -> bool:
        """Return whether a file has the name of an object; others are never deleted."""
        name = path.relative_to(self._folder).as_posix()
        return is_object(name, *get_args(Ending)) and path.is_file()


def _state(path: Path) -> tuple[int, int] | None:
    """Return size and modification time of a file; None if it is missing."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns
