"""The files of a run by the names that its tables give them; nothing else can be reached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MAX_FILE_BYTES = 64 << 20


class RunFiles(Protocol):
    """Where the pictures of a run are."""

    def read(self, name: str) -> bytes | None:
        """A file's content; None where there is none, or it lies elsewhere, or it is too large."""
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
            return path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else None
        except OSError:
            return None


def file_inside(folder: Path, name: str) -> Path | None:
    """The file of that name in the folder, also where links are followed; None elsewhere."""
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder.resolve()) and path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long, NUL, a loop of links
        return None
