"""The format of a published store, shared by writer and reader.

    objects/ab/<sha256>.<ending>  tables, pictures, manifests: named by content, never changed
    index/<key>.json              one file a run, written last: a run without one is not published

A store is untrusted: names are matched in full, contents are compared with their sha256.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

PUBLISHED_FORMAT = 1
OBJECTS, INDEX = "objects", "index"
THUMBNAIL_SIDE_PX = 256
MAX_INDEX_BYTES = 1 << 20
MAX_JSON_BYTES = 16 << 20
MAX_TABLE_BYTES = 256 << 20
MAX_PICTURE_BYTES = 64 << 20
MAX_TABLE_PARTS = 1024  # files of one table, e.g. one for each metric

Ending = Literal["parquet", "webp", "png", "json"]
MAX_OBJECT_BYTES: Mapping[Ending, int] = {
    "parquet": MAX_TABLE_BYTES,
    "webp": MAX_PICTURE_BYTES,
    "png": MAX_PICTURE_BYTES,
    "json": MAX_JSON_BYTES,
}
_OBJECT = re.compile(OBJECTS + r"/([0-9a-f]{2})/(\1[0-9a-f]{62})\.(parquet|webp|png|json)")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_INDEX = re.compile(INDEX + r"/([A-Za-z0-9][A-Za-z0-9._-]{0,99})\.json")


def object_name(content: bytes, ending: Ending) -> str:
    """Return the name of an object with this content."""
    digest = hashlib.sha256(content).hexdigest()
    return f"{OBJECTS}/{digest[:2]}/{digest}.{ending}"


def is_object(name: object, *endings: Ending) -> bool:
    """Return whether a name is exactly that of an object with one of the endings."""
    found = _OBJECT.fullmatch(name) if isinstance(name, str) else None
    return found is not None and found[3] in endings


def is_content(name: str, content: bytes) -> bool:
    """Return whether the content of an object matches its name."""
    found = _OBJECT.fullmatch(name)
    return found is not None and found[2] == hashlib.sha256(content).hexdigest()


def is_key(key: str) -> bool:
    """Return whether a run can be published under this name."""
    return _KEY.fullmatch(key) is not None


def index_name(key: str) -> str:
    """Return the name of a run's index file."""
    return f"{INDEX}/{key}.json"


def key_of(name: str) -> str | None:
    """Return the run of an index file; None for any other file."""
    found = _INDEX.fullmatch(name)
    return found[1] if found else None


def file_inside(folder: Path, name: str) -> Path | None:
    """Return a file of the folder, None if links lead out of it or there is no such file."""
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder.resolve()) and path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long, NUL, a loop of links
        return None
