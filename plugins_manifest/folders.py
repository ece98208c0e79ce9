"""Output folders that must not meet inputs: by files, not by names.

Paths are compared as the file system does: through links, mounts, names that differ in case.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from plugins_manifest.errors import UserError
from plugins_manifest.text import shown_path

_HEAD_BYTES = 1024


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


def refuse_foreign(path: Path, is_own: Callable[[bytes], bool], *, option: str) -> None:
    """Raise `UserError` if a file exists that was not written by this tool; an empty one is free.

    `is_own` gets the first bytes of the file.
    """
    if not (path.is_symlink() or path.exists()):
        return
    if path.is_file():
        try:
            with path.open("rb") as stream:
                head = stream.read(_HEAD_BYTES)
        except OSError as error:
            raise UserError(
                f"{option} {shown_path(path)} cannot be read ({error.strerror})"
            ) from error
        if not head or is_own(head):
            return
    raise UserError(
        f"{option} {shown_path(path)} exists and was not written by this command: choose another "
        "name, or move it"
    )


def refuse_others(folder: Path, own: Iterable[str], *, option: str = "--out") -> None:
    """Raise `UserError` for an output folder with other names in it than the command's own."""
    if not folder.is_dir():
        if folder.is_symlink() or folder.exists():
            raise UserError(f"{option} {shown_path(folder)} is a file: choose another folder")
        return
    known = tuple(own)
    others = sorted(p.name for p in folder.iterdir() if not p.name.startswith((".", *known)))
    if others:
        raise UserError(
            f"{option} {shown_path(folder)} contains {others[0]!r}, which this command does not "
            "write: choose another folder"
        )
