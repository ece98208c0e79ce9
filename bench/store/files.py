"""Write result files atomically, so that a killed run leaves no partial file; read them back."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from bench.errors import UserError, disk_error, shown_path
from bench.store.parquet import open_parquet, read_bytes
from plugins_manifest.files import atomic_write, link_or_copy
from plugins_manifest.images import decode_image, image_size, read_image
from plugins_manifest.text import first_line

__all__ = [
    "decode_image",
    "empty_table",
    "image_size",
    "png_bytes",
    "read_image",
    "read_table",
    "sha256_of",
    "write_bytes",
    "write_json",
    "write_table",
]

_LOG = logging.getLogger(__name__)
_PNG_COMPRESSION = 3  # of 9: a third of the default's time, a few percent larger


def write_bytes(
    path: Path, content: bytes, *, durable: bool = True, below: Path | None = None
) -> None:
    """Write a file atomically: readers see the old content or the new one.

    See `atomic_write`. Raises `UserError` for a full disk or a folder that is not writable.
    """
    try:
        atomic_write(path, content, durable=durable, below=below)
    except OSError as error:
        raise disk_error(error, path) from error
    _LOG.debug("wrote %s, %d bytes", path, len(content))


def link_picture(source: Path, path: Path, *, below: Path | None = None) -> None:
    """Give a picture, which is only ever replaced, a second name; see `write_bytes` for errors."""
    try:
        link_or_copy(source, path, below=below)
    except OSError as error:
        raise disk_error(error, path) from error


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write readable JSON atomically."""
    write_bytes(path, json_bytes(data))


def json_bytes(data: dict[str, Any]) -> bytes:
    """Return readable JSON."""
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def write_table(path: Path, frame: pd.DataFrame, schema: pa.Schema) -> None:
    """Write a Parquet file with exactly the schema's columns; missing numbers become null."""
    write_bytes(path, table_bytes(frame, schema))


def table_bytes(frame: pd.DataFrame, schema: pa.Schema) -> bytes:
    """Return a Parquet file with exactly the schema's columns, and a checksum in each page."""
    complete = frame.reindex(columns=schema.names)
    table = pa.Table.from_pandas(complete, schema=schema, preserve_index=False)
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), buffer, write_page_checksum=True)
    return buffer.getvalue()


def read_table(path: Path, schema: pa.Schema) -> pd.DataFrame:
    """Read a Parquet file written by `write_table`; raise `UserError` for a damaged one.

    Columns that the file lacks are null, columns that the schema lacks are dropped.
    """
    return table_frame(read_bytes(path, name=shown_path(path)), schema, name=shown_path(path))


def table_frame(content: bytes, schema: pa.Schema, *, name: str) -> pd.DataFrame:
    """Return the content of a Parquet file with the schema's columns; see `read_table`."""
    try:
        table = open_parquet(content, name=name).read()
        table.validate(full=True)  # text that is not UTF-8
        for field in schema:
            if field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        return table.select(schema.names).cast(schema).to_pandas()
    except (pa.ArrowException, OSError, OverflowError, ValueError, MemoryError) as error:
        raise UserError(f"{name} is damaged ({first_line(error)})") from error


def empty_table(schema: pa.Schema) -> pd.DataFrame:
    """Return a table with the schema's columns and no rows."""
    return schema.empty_table().to_pandas()


def png_bytes(image: np.ndarray) -> bytes:
    """Return the lossless PNG of a uint8 RGB image [height, width, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=_PNG_COMPRESSION)
    return buffer.getvalue()


def pixels_sha256(image: np.ndarray) -> str:
    """Hash an image's shape and pixels; independent of the file format."""
    return sha256_of(str(image.shape).encode() + np.ascontiguousarray(image).tobytes())


def sha256_of(content: bytes) -> str:
    """Return the hexadecimal sha256 of some bytes."""
    return hashlib.sha256(content).hexdigest()
