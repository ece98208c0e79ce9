"""Tables of published stores, cached as files on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from bench.publish.format import file_inside, is_content
from bench.store.files import write_bytes

MAX_CACHE_BYTES = 8 << 30
_IN_USE_SECONDS = 3600  # a file touched since may be open


class TableCache:
    """Objects in a folder of this machine, under the names of their content.

    `source` is the folder of a store on this machine, whose files are read where they lie.
    """

    def __init__(
        self, folder: Path, *, source: Path | None = None, max_bytes: int = MAX_CACHE_BYTES
    ) -> None:
        self._folder, self._source, self._max_bytes = folder, source, max_bytes
        self._checked: dict[str, tuple[Path, tuple[int, int] | None]] = {}
        self._lock = Lock()

    def path(self, name: str, content: Callable[[], bytes]) -> Path:
        """The object's file; asks for its content where it is not here. `UserError` as `content`.

        A file is compared with its sha256 when it is first used, and again when it has changed.
        """
        known = self._checked.get(name)
        if known is not None and _state(known[0]) == known[1]:
            return known[0]
        path = self._there(name)
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

    def _there(self, name: str) -> Path | None:
        """The file of the cache, if it holds what its name says."""
        path = self._folder / name
        if self._source is not None or not path.is_file():
            return None
        return path if is_content(name, path.read_bytes()) else None

    def _prune(self) -> None:
        """Remove what was used longest ago, until the folder is small enough."""
        with self._lock:
            files = [path for path in self._folder.rglob("*") if path.is_file()]
            states = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in files)
            excess = sum(size for _, size, _ in states) - self._max_bytes
            for used, size, path in states:
                if excess <= 0 or used > time.time() - _IN_USE_SECONDS:
                    break
                path.unlink(missing_ok=True)
                excess -= size


def _state(path: Path) -> tuple[int, int] | None:
    """What changes with a file; None where it has gone."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns
