"""What published runs measured of a plugin's file, found by its hash; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.publish.format import (
    INDEX,
    MAX_INDEX_BYTES,
    MAX_JSON_BYTES,
    MAX_TABLE_BYTES,
    file_inside,
    is_content,
    is_object,
    key_of,
)
from bench.registry import REFERENCES
from plugins_manifest.documents import parse_json

_COLUMNS = ("level", "plugin", "method", "verdict", "retention", "retention_low", "retention_high")
_OF_METHODS = "method"


@dataclass(frozen=True)
class Measured:
    """Retention of one plugin by one method, with its 95 % interval, in the run `run`."""

    run: str
    family: str
    plugin: str
    method: str
    verdict: str | None
    retention: float
    low: float | None
    high: float | None


def measured(sha256: str, folder: Path) -> list[Measured]:
    """Return the measured retention of a file, by method; empty for a folder without a store.

    A run that is damaged is left out.
    """
    found: list[Measured] = []
    for path in sorted((folder / INDEX).glob("*.json")):
        name = f"{INDEX}/{path.name}"
        if key := key_of(name):
            try:
                found += list(_of_run(folder, name, key, sha256))
            except (UserError, OSError):
                continue
    return found


def _of_run(store: Path, name: str, key: str, sha256: str) -> Iterator[Measured]:
    index = _json(_content(store, name, MAX_INDEX_BYTES), name)
    manifest_name = index.get("manifest")
    if not is_object(manifest_name, "json"):
        return
    manifest = _json(_object(store, str(manifest_name), MAX_JSON_BYTES), str(manifest_name))
    listed = manifest.get("plugins")
    plugins = {
        str(entry.get("id"))
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict) and entry.get("sha256") == sha256
    }
    tables = index.get("tables")
    names = tables.get("compatibility") if isinstance(tables, dict) and plugins else None
    for row in _rows(store, names if isinstance(names, list) else []):
        is_ours = row["plugin"] in plugins and row["level"] == _OF_METHODS
        if is_ours and row["method"] not in REFERENCES and row["retention"] is not None:
            yield Measured(
                run=key,
                family=str(manifest.get("family")),
                plugin=str(row["plugin"]),
                method=row["method"],
                verdict=row["verdict"],
                retention=row["retention"],
                low=row["retention_low"],
                high=row["retention_high"],
            )


def _rows(store: Path, names: Sequence[object]) -> Iterator[Mapping[str, Any]]:
    from bench.store.parquet import open_parquet

    for name in names:
        if is_object(name, "parquet"):
            content = _object(store, str(name), MAX_TABLE_BYTES)
            table = open_parquet(content or b"", name=str(name))
            yield from table.read(columns=list(_COLUMNS)).to_pylist()


def _object(store: Path, name: str, limit_bytes: int) -> bytes | None:
    content = _content(store, name, limit_bytes)
    return content if content is not None and is_content(name, content) else None


def _content(store: Path, name: str, limit_bytes: int) -> bytes | None:
    path = file_inside(store, name)
    return path.read_bytes() if path and path.stat().st_size <= limit_bytes else None


def _json(content: bytes | None, name: str) -> Mapping[str, Any]:
    found = parse_json(content or b"", name=name)
    return found if isinstance(found, dict) else {}
