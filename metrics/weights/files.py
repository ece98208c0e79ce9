"""Weight files of the metrics' networks: paths, sha256, and the message for missing ones.

They are in `XBENCH_METRIC_WEIGHTS` (default: a folder in the user's cache), one folder for each
network. Nothing is downloaded here; `xbench metrics fetch NAME` does that.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from metrics.base import MetricUnavailableError
from plugins_manifest import files
from plugins_manifest.content import is_settled, state_of
from plugins_manifest.sealed import read_sealed, write_sealed

FOLDER_VARIABLE = "XBENCH_METRIC_WEIGHTS"
HASHES = ".sha256.json"
SHOWN = 12  # characters of a hash in recipes


@dataclass(frozen=True)
class RemoteFile:
    """A file that weights consist of, and where it is published.

    `source` is `hf://OWNER/REPOSITORY/PATH` or an https address; `sha256` is the published hash,
    or its published beginning, or empty where none is published.
    """

    name: str
    source: str
    sha256: str = ""


@dataclass(frozen=True)
class Weights:
    """The files of one network, in a folder of their own."""

    name: str
    title: str
    files: tuple[RemoteFile, ...]
    license: str
    megabytes: int | None = None  # of the tensors as the network holds them; None: not known

    @property
    def folder(self) -> Path:
        """Return the folder of the files."""
        return weights_folder() / self.name

    @property
    def is_here(self) -> bool:
        """Return whether every file is in its place."""
        return all((self.folder / file.name).is_file() for file in self.files)

    def path(self, name: str | None = None) -> Path:
        """Return one file, the first by default; raise MetricUnavailableError if any is missing."""
        missing = [file.name for file in self.files if not (self.folder / file.name).is_file()]
        if missing:
            raise MetricUnavailableError(self._how_to_get(missing))
        return self.folder / (name or self.files[0].name)

    def sha256(self) -> str:
        """Return a short hash of the files; raise MetricUnavailableError if it is wrong."""
        self.path()
        hashes = []
        for file in self.files:
            found = file_sha256(self.folder / file.name)
            if not found.startswith(file.sha256):
                raise MetricUnavailableError(
                    f"{self.folder / file.name} has the sha256 {found[:SHOWN]}..., published is "
                    f"{file.sha256}...: remove it and run: xbench metrics fetch {self.name}"
                )
            hashes.append(found)
        if len(hashes) == 1:
            return hashes[0][:SHOWN]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()[:SHOWN]

    def _how_to_get(self, missing: list[str]) -> str:
        size = f", about {self.megabytes:,} MB" if self.megabytes else ""
        return (
            f"the weights {self.title} ({self.license}{size}) are missing: run: xbench metrics "
            f"fetch {self.name}, or put {' and '.join(missing)} into {_shown(self.folder)} "
            f"({FOLDER_VARIABLE} names the folder above)"
        )


def weights_folder() -> Path:
    """Return `XBENCH_METRIC_WEIGHTS`, or a folder in the user's cache."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else user_cache_path("xbench-metrics") / "weights"


def file_sha256(path: Path) -> str:
    """Return a file's sha256, cached in its folder for the file's state."""
    key, started_ns = path.name, time.time_ns()
    state = state_of(path)
    stamp = [*state[0][1:]]
    book = path.parent / HASHES
    known = _read_book(book)
    if known.get(key, [])[:-1] == stamp:
        return known[key][-1]
    found = files.file_sha256(path)
    if is_settled(state, started_ns) and state_of(path) == state:
        _write_book(book, {**known, key: [*stamp, found]})
    return found


def _read_book(book: Path) -> dict[str, list]:
    data = read_sealed(book)
    return data if isinstance(data, dict) else {}  # only a shortcut: hashed again


def _write_book(book: Path, hashes: dict[str, list]) -> None:
    try:
        write_sealed(book, hashes, durable=False)
    except OSError:
        return  # a read-only folder: hashed again next time


def _shown(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
