"""What a store has of a run from an earlier publication: its index, and pictures made already."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.errors import UserError, shown_path
from bench.publish.format import (
    MAX_INDEX_BYTES,
    MAX_TABLE_BYTES,
    index_name,
    is_content,
    is_object,
)
from bench.publish.locations import StoreLocation
from bench.publish.pictures import THUMBNAIL_RECIPE, Published
from bench.publish.select import Made, PublicRun

_COLUMNS = ["trial_id", "image_sha256", "image", "thumbnail"]


def index_before(place: StoreLocation, key: str, chosen: PublicRun) -> bytes | None:
    """The run's index file as it is; `UserError` where the key is another run's."""
    content = place.read(index_name(key), limit_bytes=MAX_INDEX_BYTES)
    facts = _said(content).get("facts")
    other = facts.get("run_id") if isinstance(facts, dict) else None
    if other is not None and other != chosen.facts.get("run_id"):
        raise UserError(
            f"{place.address} has another run under the key {key!r}: choose another with --key "
            f"(this one is {shown_path(chosen.folder)})"
        )
    return content


def pictures_before(place: StoreLocation, index: bytes | None) -> Made:
    """The pictures that an index file's results name; none where anything about it is odd."""
    said = _said(index)
    tables = said.get("tables")
    names = tables.get("results") if isinstance(tables, dict) else None
    if said.get("thumbnails") != THUMBNAIL_RECIPE or not isinstance(names, list):
        return {}
    found: dict[tuple[str, str], Published] = {}
    for name in names:
        content = place.read(name, limit_bytes=MAX_TABLE_BYTES) if _is_table(name) else None
        if content is None or not is_content(name, content):
            return {}
        try:
            rows = pq.read_table(io.BytesIO(content), columns=_COLUMNS).to_pylist()
        except (pa.ArrowInvalid, OSError):
            return {}
        for row in rows:
            trial, sha256, image, thumbnail = (row.get(column) for column in _COLUMNS)
            if is_object(thumbnail, "webp"):
                image = image if is_object(image, "png") else None
                found[str(trial), str(sha256)] = Published(image, str(thumbnail))
    return found


def _is_table(name: Any) -> bool:
    return is_object(name, "parquet")


def _said(index: bytes | None) -> dict[str, Any]:
    try:
        said = json.loads(index or b"{}")
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
