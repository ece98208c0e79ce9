"""Files: hashes, and writes that happen completely or not at all.

Every file is written under a temporary name in its folder and then renamed. With `durable`, its
content and its name are on the disk when the call returns (fsync); caches leave that out.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"
ABANDONED_SECONDS = 24 * 3600  # no write of one file takes longer
_TEMPORARY = re.compile(r"\.tmp-([0-9a-f]{12})-(\d+)-[0-9a-f]{12}.{0,16}", re.DOTALL)
_EARLIER = re.compile(r"\.tmp-\d+-[0-9a-f]{8}-.+", re.DOTALL)  # of versions before 0.1.0


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- writes


def temporary_beside(path: Path) -> Path:
    """Return a name in the same folder that no other process, container or host uses.

    Process ids alone collide between containers that share a folder, so a token is in the name.
    """
    token = secrets.token_hex(6)
    return path.with_name(f"{TEMPORARY_PREFIX}{_place()}-{os.getpid()}-{token}{path.suffix[:16]}")


def atomic_write(
    path: Path, data: bytes | str, *, durable: bool = True, below: Path | None = None
) -> None:
    """Write a file through a temporary name, so that readers never see half of it.

    Missing folders are made; with `below` only inside of that folder, which has to exist.
    """
    make_folders(path.parent, below=below)
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary name to write a file or a folder to; it gets the name `path` at the end.

    An exception inside of the context leaves `path` as it was.
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        if durable:
            sync(temporary)
        if temporary.is_dir():
            _replace_folder(temporary, path)
        else:
            temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        _remove(temporary)


def move_into_place(file: Path, path: Path) -> None:
    """Give a complete file of the same disk its name; both are on the disk afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sync_file(file)
    file.replace(path)
    sync_folder(path.parent)


def link_or_copy(source: Path, path: Path, *, below: Path | None = None) -> None:
    """Give a file that is only ever replaced a second name: a hard link, or a copy without links.

    Missing folders are made; with `below` only inside of that folder, which has to exist.
    """
    make_folders(path.parent, below=below)
    with replacing(path) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, temporary)


def append_line(path: Path, line: str) -> None:
    """Append a line to a log, in one write; a killed process may leave a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as log:
        log.write(f"{line}\n".encode())


def make_folders(folder: Path, *, below: Path | None = None) -> None:
    """Make missing folders; raise `FileNotFoundError` if `below` does not exist."""
    if below is None:
        folder.mkdir(parents=True, exist_ok=True)
        return
    below.stat()
    missing = folder.relative_to(below).parts
    for n in range(len(missing)):
        below.joinpath(*missing[: n + 1]).mkdir(exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can do that."""
    with suppress(OSError):  # some systems and network disks refuse folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync(path: Path) -> None:
    """Flush a file, or a folder with all its files, to the disk."""
    if path.is_dir():
        for inner in path.rglob("*"):
            _sync_file(inner)
        sync_folder(path)
    else:
        _sync_file(path)


def _sync_file(path: Path) -> None:
    if path.is_file():
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())


def _replace_folder(temporary: Path, path: Path) -> None:
    """Put a folder in the place of another one, which `rename` cannot do in one step."""
    old = temporary_beside(path)
    if path.is_dir() and not path.is_symlink():
        path.rename(old)
    temporary.rename(path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# --- temporary files of killed processes


def sweep_temporary(folder: Path) -> None:
    """Remove temporary files below a folder whose writers are dead.

    A writer in this system is looked up by its process id; another one's file is removed after
    `ABANDONED_SECONDS`, by the clock of the disk.
    """
    found = list(folder.rglob(f"{TEMPORARY_PREFIX}*"))
    if not found:
        return
    now = _disk_time(folder)
    for path in found:
        with suppress(FileNotFoundError):
            if _is_abandoned(path, now):
                _remove(path)


def _is_abandoned(path: Path, now: float) -> bool:
    name = _TEMPORARY.fullmatch(path.name)
    if name is None and _EARLIER.fullmatch(path.name) is None:
        return False  # a file of the user
    if name is not None and name[1] == _place():
        return not _is_alive(int(name[2]))
    return now - path.lstat().st_mtime > ABANDONED_SECONDS


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _disk_time(folder: Path) -> float:
    """Return the time of the disk's clock; hosts that share a folder may differ."""
    probe = temporary_beside(folder / "clock")
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


@cache
def _place() -> str:
    """Identify where process ids are unique: the host, its boot, the container."""
    facts = [socket.gethostname()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
    with suppress(OSError):
        facts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:12]
