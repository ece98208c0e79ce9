"""The lock of a run directory: one writer at a time; it ends with its process."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import LockedError, disk_error, shown_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_FILE = ".lock"
_WAIT_SECONDS = 0.2  # `is_locked` holds the lock for a moment


def acquire(folder: Path, *, fix: str) -> FileLock:
    """Lock a directory, made if missing; raise `LockedError` if another process has locked it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _FILE, timeout=_WAIT_SECONDS, poll_interval=0.02)
        lock.acquire()
    except Timeout as error:
        raise LockedError(
            f"another run is writing into {shown_path(folder)}: wait for it, stop it, or {fix}"
        ) from error
    except OSError as error:
        raise disk_error(error, folder) from error
    return lock


def is_locked(folder: Path) -> bool | None:
    """Return whether a process has locked a directory; None where that is unknown."""
    if fcntl is None:
        return None
    try:
        handle = os.open(folder / _FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # other readers are not refused
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(handle)
    return False
