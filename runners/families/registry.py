"""Families: what an entry point of group `xbench.families` provides, and how it is looked up.

Imports no torch, so that a plan can be made at once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from plugins_manifest.errors import UserError
from plugins_manifest.files import file_sha256
from plugins_manifest.installed import installed, load_entry
from runners.families.traits import FamilyTraits

if TYPE_CHECKING:
    from runners.families.family import Family


@dataclass(frozen=True)
class MapperProblem:
    """Why a family has no mapper here, how to get one, and the size of its file."""

    what: str
    how: str
    megabytes: int | None = None

    def __str__(self) -> str:
        """Return both as one message."""
        return f"{self.what}: {self.how}"


class FamilySource(Protocol):
    """A family before it is loaded; importing its module loads no torch.

    Attributes named as those of `runners.families.traits.FamilyTraits` are optional.
    """

    name: str

    def fingerprint(self, adapter: Path | None) -> dict[str, str]:
        """Return part name -> sha256 of everything of the family that decides pixels."""
        ...

    def mapper_problem(self, adapter: Path | None) -> MapperProblem | None:
        """Return why a method that needs a mapper cannot run; None if there is a mapper."""
        ...

    def load(self, *, device: str, dtype: str, adapter: Path | None) -> Family:
        """Load both pipelines and the mapper; raise `UserError` for what is missing."""
        ...


def find_family(name: str) -> FamilySource:
    """Look a family up among the installed ones; `UserError` names the nearest."""
    return load_entry("families", name)


@cache
def family_traits(name: str) -> FamilyTraits:
    """Return the traits of a family; those that it does not declare, or all if it is not installed,
    have their defaults.
    """
    if name not in installed("families"):
        return FamilyTraits()
    source = find_family(name)
    names = [field.name for field in fields(FamilyTraits)]
    return FamilyTraits(**{name: getattr(source, name) for name in names if hasattr(source, name)})


def family_fingerprint(name: str, *, adapter: Path | None = None) -> dict[str, str]:
    """Return part name (base, upgraded, mapper) -> sha256; `adapter` replaces the family's mapper.

    Raises `UserError` for an unknown family and for a missing adapter.
    """
    return find_family(name).fingerprint(adapter)


def load_family(
    name: str, *, device: str = "cpu", dtype: str = "float32", adapter: Path | None = None
) -> Family:
    """Load a family by name; `adapter` replaces its mapper (a folder, .safetensors or .bin).

    Raises `UserError` for unknown names, missing files, and a mapper that does not fit.
    """
    return find_family(name).load(device=device, dtype=dtype, adapter=adapter)


def hash_path(path: Path) -> str:
    """Return the sha256 of a file, or of a folder's file names and contents.

    Raises `UserError` if it is missing.
    """
    if path.is_file():
        return file_sha256(path)
    if not path.is_dir():
        raise UserError(f"there is no file or folder {str(path)!r}: check the path")
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()
