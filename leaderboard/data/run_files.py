"""The files of a run by the names that its tables give them; nothing else can be reached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.publish.format import MAX_PICTURE_BYTES, file_inside, is_object

__all__ = ["FolderFiles", "ObjectStore", "PublishedFiles", "RunFiles", "file_inside"]


class RunFiles(Protocol):
    """Where the pictures of a run are."""

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none, or it lies elsewhere, or it is too large."""
        ...


class ObjectStore(Protocol):
    """A published store, by the names of its objects."""

    def picture(self, name: str) -> bytes | None:
        """A picture's content, None where it cannot be had."""
        ...

    def fetch(self, name: str) -> Path:
        """A table as a file of this machine; `UserError` where it cannot be had."""
        ...


@dataclass(frozen=True)
class FolderFiles:
    """The files of a run directory on this machine."""

    folder: Path

    def read(self, name: str) -> bytes | None:
        """A file inside the folder, also where links are followed."""
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
        """A picture of the store by its object's name; no other name reaches anything."""
        return self.store.picture(name) if is_object(name, "webp", "png") else None
