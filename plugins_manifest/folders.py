"""Output folders that must not meet inputs: by files, not by names.

Paths are compared as the file system does: through links, mounts, names that differ in case.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from plugins_manifest.errors import UserError
from plugins_manifest.text import shown_path


def refuse_overlap(out: Path, inputs: Iterable[Path], *, option: str = "--out") -> None:
    """Raise `UserError` if an output folder is, contains or is inside of an input."""
    if problems := list(overlaps(out, inputs, option=option)):
        raise UserError.collect(problems)


def overlaps(out: Path, inputs: Iterable[Path], *, option: str = "--out") -> Iterator[str]:
    """Yield why an output folder meets inputs; an input file is never met from the inside."""
    above = _identities(out)
    if not above:
        return
    itself = _identity(out)
    for path in inputs:
        identity = _identity(path)
        if identity is None:
            continue
        if identity == itself:
            relation = "is"
        elif identity in above and path.is_dir():
            relation = "is inside"
        elif itself is not None and itself in _identities(path):
            relation = "contains"
        else:
            continue
        yield (
            f"{option} {shown_path(out)} {relation} {shown_path(path)}, which is read: choose "
            "another folder"
        )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of what a path leads to; None if it does not exist."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino


def _identities(path: Path) -> set[tuple[int, int]]:
    """Return the identities of a path and of all folders above it that exist."""
    real = Path(os.path.realpath(path))
    found = (_identity(place) for place in (real, *real.parents))
    return {identity for identity in found if identity is not None}
