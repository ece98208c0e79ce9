"""Read the pictures of a run by the names in its tables, never a file outside the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.publish.format import MAX_PICTURE_BYTES, file_inside, is_object

__all__ = ["FolderFiles", "ObjectStore", "PublishedFiles", "RunFiles", "file_inside"]


class RunFiles(Protocol):
    """Reader of a run's pictures."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if it is missing, outside the run or too large."""
        ...


class ObjectStore(Protocol):
    """A published store, read by object names."""

    def picture(self, name: str) -> bytes | None:
        """Return a picture's content, None if it cannot be read."""
        ...

    def fetch(self, name: str) -> Path:
        """Return a table as a local file; `UserError` on failure."""
        ...


@dataclass(frozen=True)
class FolderFiles:
    """The files of a run directory on this machine."""

    folder: Path

    def read(self, name: str) -> bytes | None:
        """Read a file inside the folder, also after following links."""
        path = file_inside(self.folder, name)
        if path is None:
            return None
        try:
            return path.read_bytes() if path.stat().st_size <= MAX_PICTURE_BYTES else None
        except OSError:
            return None


@dataclass(frozen=True)
class PublishedFiles:
    """The pictures of a published run."""

    store: ObjectStore

    def read(self, name: str) -> bytes | None:
        """Read a picture by its object name; other names are rejected."""
        return self.store.picture(name) if is_object(name, "webp", "png") else None
