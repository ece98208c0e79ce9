"""The harness's errors: all of them can be fixed by the user."""

from __future__ import annotations

import errno
from pathlib import Path

from plugins_manifest.errors import UserError, nearest_names, unknown_name
from plugins_manifest.text import shown_path

__all__ = ["LockedError", "UserError", "disk_error", "nearest_names", "shown_path", "unknown_name"]


class LockedError(UserError):
    """A folder that another process is writing into."""


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}


def disk_error(error: OSError, path: Path) -> UserError:
    """Return the message for a failed write of `path`; re-raise errors that a user cannot fix."""
    where = shown_path(path)
    if error.errno in _NO_ROOM:
        return UserError(
            f"no room left to write {where} ({error.strerror}): free some space and run the same "
            "command again; everything finished is kept"
        )
    if error.errno in _NO_RIGHT:
        return UserError(
            f"{where} cannot be written ({error.strerror}): change its rights or choose another "
            "folder with --out"
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return UserError(f"{where} is in the way of a folder: choose another --out")
    if error.errno == errno.EISDIR:
        return UserError(f"{where} is a folder where a file belongs: move it away")
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return UserError(
            f"{where} cannot be written: its folder was renamed or deleted; what was written "
            "before is in the folder's new place"
        )
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EIO):
        return UserError(f"{where} cannot be written ({error.strerror}): choose another --out")
    raise error
