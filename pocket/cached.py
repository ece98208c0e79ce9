"""Arrays that take long to make, kept in a file with their hash; damaged files are made again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from plugins_manifest.errors import UserError
from plugins_manifest.files import replacing
from plugins_manifest.text import first_line

Arrays = Mapping[str, np.ndarray]
_LOG = logging.getLogger(__name__)


def cached_arrays(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays of a file; `make` and write them if it is missing or damaged."""
    found = read_arrays(path)
    return write_arrays(path, make()) if found is None else found


def write_arrays(path: Path, arrays: Arrays) -> Arrays:
    """Write arrays with their hash and return them; missing folders are made.

    Raises `UserError` where they cannot be written, such as on a full disk.
    """
    found = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as draft:
            save_file(found, draft, metadata={"sha256": _sha256(found)})
    except SafetensorError as error:
        raise UserError(
            f"{path} cannot be written ({first_line(error)}): free some space and run the same "
            "command again"
        ) from error
    return found


def read_arrays(path: Path) -> Arrays | None:
    """Return the arrays of a file; None if it is missing or, with a warning, damaged."""
    found = _read(path) if path.is_file() else None
    if found is None and path.exists():
        _LOG.warning("%s is damaged: it is made again", path)
    return found


def _read(path: Path) -> Arrays | None:
    try:
        with safe_open(path, framework="numpy") as file:
            expected = (file.metadata() or {}).get("sha256")
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError):
        return None
    return found if _sha256(found) == expected else None


def _sha256(arrays: Arrays) -> str:
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype} {array.shape} ".encode())
        total.update(array.data)
    return total.hexdigest()
