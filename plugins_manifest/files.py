"""Files: hashes, and writes that happen completely or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"\d+-[0-9a-f]{8}-.+", re.DOTALL)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def temporary_beside(path: Path) -> Path:
    """Return a name in the same folder that no other process or host uses."""
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


def is_temporary(path: Path) -> bool:
    """Return whether a file has the form of a name of `temporary_beside`."""
    return _TEMPORARY.fullmatch(path.name) is not None and not path.is_dir()


def atomic_write(path: Path, data: bytes | str) -> None:
    """Write a file through a temporary name, so that readers never see half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
