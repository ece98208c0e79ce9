"""A folder of pictures, or one picture, and the hash of what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from plugins_manifest.files import file_sha256
from plugins_manifest.images.decode import SUFFIXES


def pictures_in(path: Path) -> list[Path]:
    """Return the pictures below a folder, or the one that the path names; empty without any."""
    if path.is_file():
        return [path]
    found = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    # names that begin with a dot are notes of a file system, as ._photo.jpg
    return sorted(p for p in found if not p.name.startswith(".") and p.is_file())


def pictures_sha256(paths: Iterable[Path]) -> str:
    """Return a hash of the content of pictures, whatever their names and order."""
    hashes = sorted(file_sha256(path) for path in paths)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
