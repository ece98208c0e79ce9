"""Content hashes of files and folders, and loading under the hash that was planned.

A hash is remembered for the state of a file: device, inode, size, and the times of the last change
of the content and of the inode. The kernel alone sets the time of the inode, so a file that was
replaced, overwritten, truncated or linked anew has another state.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import TypeVar

from plugins_manifest.errors import UserError
from plugins_manifest.files import file_sha256

T = TypeVar("T")
State = tuple[tuple[str, int, int, int, int, int], ...]
SHOWN = 12  # digits of a hash in messages
# A file that changed so recently may change again without another time: file systems round times,
# some to two seconds.
_SETTLED_NS = 2 * 10**9
_ATTEMPTS = 3


class ChangedFileError(UserError):
    """A file that is not the planned one any more; it ends a run, and its images are not kept."""


def files_of(path: Path) -> list[tuple[str, Path]]:
    """Return the files of a folder by relative name, or the file itself; links are followed.

    Raises `UserError` if it is missing, or if its folders form a loop.
    """
    if path.is_file():
        return [("", path)]
    if not path.is_dir():
        raise UserError(f"there is no file or folder {str(path)!r}: check the path")
    found = [(file.relative_to(path).as_posix(), file) for file in _walk(path, frozenset())]
    return sorted(found, key=lambda item: Path(item[0]))


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    stat = folder.stat()
    if (own := (stat.st_dev, stat.st_ino)) in above:
        raise UserError(f"the folder {str(folder)!r} links to a folder above it: remove the link")
    for entry in folder.iterdir():
        if entry.is_file():
            yield entry
        elif entry.is_dir():
            yield from _walk(entry, above | {own})


def state_of(path: Path) -> State:
    """Return the state of each file; another content has another state."""
    return tuple(
        (name, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
        for name, s in ((name, file.stat()) for name, file in files_of(path))
    )


def is_settled(state: State, now_ns: int) -> bool:
    """Return whether the last change is long enough ago for the next one to have another time."""
    newest = max((time_ns for file in state for time_ns in file[-2:]), default=0)
    return newest < now_ns - _SETTLED_NS


def remembered_by_state(compute: Callable[[Path], str]) -> Callable[[Path], str]:
    """Decorate a hash of a path so that it is computed once for each state of the files."""
    known: dict[str, tuple[State, str]] = {}

    @wraps(compute)
    def remembered(path: Path) -> str:
        key = os.path.abspath(path)
        try:
            state, started_ns = state_of(path), time.time_ns()
            if key in known and known[key][0] == state:
                return known[key][1]
            found = compute(path)
            if is_settled(state, started_ns) and state_of(path) == state:
                known[key] = (state, found)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): check it") from error
        return found

    return remembered


@remembered_by_state
def hash_path(path: Path) -> str:
    """Return the sha256 of a file, or of a folder's file names and contents.

    Raises `UserError` if it is missing.
    """
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for name, file in files_of(path):
        digest.update(f"{name}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def load_as_planned(
    load: Callable[[], T],
    path: Path,
    sha256: str,
    *,
    what: str,
    hash_of: Callable[[Path], str] = hash_path,
) -> T:
    """Return what `load` reads from a path whose content has the planned hash throughout.

    What is loaded must be in memory of its own: a mapped file changes with the file. Raises
    `ChangedFileError`, naming `what`, if the content is not the planned one.
    """
    for _ in range(_ATTEMPTS):
        before = _checked(path, sha256, what, hash_of)
        try:
            loaded = load()
        except Exception:
            if _state_or_none(path) != before:
                _checked(path, sha256, what, hash_of)
            raise
        if _state_or_none(path) == before:
            return loaded
    raise ChangedFileError(
        f"{what}: {path.name} is being changed while it is read: wait until nothing writes to it, "
        "then run the same command again"
    )


def require_same(what: str, planned: str, found: str) -> None:
    """Raise `ChangedFileError` unless the hash found is the planned one."""
    if found != planned:
        raise ChangedFileError(
            f"{what} is not the planned one: sha256 {planned[:SHOWN]}... was planned, now it is "
            f"{found[:SHOWN]}...: it changed after the plan was made; run the same command again "
            "to plan with it as it is now, or restore it first"
        )


def _checked(path: Path, sha256: str, what: str, hash_of: Callable[[Path], str]) -> State:
    """Return the state of a path whose content has the hash."""
    try:
        before = state_of(path)
        found = hash_of(path)
        require_same(f"{what}: {path.name}", sha256, found)
        if state_of(path) == before:
            return before
    except ChangedFileError:
        raise
    except (UserError, OSError) as error:
        raise ChangedFileError(
            f"{what}: {path.name} with the planned sha256 {sha256[:SHOWN]}... cannot be read any "
            f"more ({error}): restore it, or run the same command again to plan without it"
        ) from error
    return ()  # it changed while it was hashed: no state equals this one


def _state_or_none(path: Path) -> State | None:
    try:
        return state_of(path)
    except (UserError, OSError):
        return None
