"""JSON files that carry their own hash, so that damage is found when they are read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from plugins_manifest.documents import read_json
from plugins_manifest.errors import UserError
from plugins_manifest.files import atomic_write

_MAX_BYTES = 256 << 20


def write_sealed(path: Path, data: Any, *, durable: bool = True, below: Path | None = None) -> None:
    """Write JSON data with its sha256, so that `read_sealed` finds damage."""
    sealed = {"sha256": _seal(data), "data": data}
    atomic_write(path, json.dumps(sealed, indent=1) + "\n", durable=durable, below=below)


def read_sealed(path: Path) -> Any:
    """Return the data that `write_sealed` wrote; None if it is missing, unreadable or damaged."""
    try:
        sealed = read_json(path, most_bytes=_MAX_BYTES)
    except UserError:
        return None
    if not isinstance(sealed, dict) or sealed.keys() != {"sha256", "data"}:
        return None
    return sealed["data"] if sealed["sha256"] == _seal(sealed["data"]) else None


def _seal(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
