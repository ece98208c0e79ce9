"""What a family consists of, as hashes; needs no torch, so that a plan can be made at once."""

from __future__ import annotations

import hashlib
from importlib.metadata import entry_points
from pathlib import Path

from plugins_manifest.errors import UserError, unknown_name
from runners.base import FamilySource

FAMILIES_GROUP = "xbench.families"
_CHUNK_BYTES = 1 << 20


def family_fingerprint(name: str, *, adapter: Path | None = None) -> dict[str, str]:
    """Part name (base, upgraded, mapper) -> sha256; `adapter` replaces the family's mapper.

    Raises `UserError` for an unknown family and for an adapter that is not there.
    """
    return find_family(name).fingerprint(adapter)


def find_family(name: str) -> FamilySource:
    """Look a family up among the installed entry points; `UserError` names the nearest."""
    points = {point.name: point for point in entry_points(group=FAMILIES_GROUP)}
    if name not in points:
        raise UserError(unknown_name("family", name, points))
    return points[name].load()


def hash_path(path: Path) -> str:
    """Sha256 of a file, or of a folder's file names and contents; `UserError` if missing."""
    if path.is_file():
        return _hash_file(path)
    if not path.is_dir():
        raise UserError(f"there is no file or folder {str(path)!r}: check the path")
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{_hash_file(file)}\n".encode())
    return digest.hexdigest()


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
