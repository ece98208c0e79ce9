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
from plugins_manifest.files import atomic_write
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


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see the old content or the new one.

    Raises `UserError` for a full disk or a folder that is not writable.
    """
    try:
        atomic_write(path, content)
    except OSError as error:
        raise disk_error(error, path) from error
    _LOG.debug("wrote %s, %d bytes", path, len(content))


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write readable JSON atomically."""
    write_bytes(path, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())


def write_table(path: Path, frame: pd.DataFrame, schema: pa.Schema) -> None:
    """Write a Parquet file with exactly the schema's columns; missing numbers become null."""
    complete = frame.reindex(columns=schema.names)
    table = pa.Table.from_pandas(complete, schema=schema, preserve_index=False)
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), buffer)
    write_bytes(path, buffer.getvalue())


def read_table(path: Path, schema: pa.Schema) -> pd.DataFrame:
    """Read a Parquet file written by `write_table`; raise `UserError` for a damaged one.

    Columns that the file lacks are null, columns that the schema lacks are dropped.
    """
    try:
        table = pq.ParquetFile(io.BytesIO(path.read_bytes())).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{shown_path(path)} is damaged ({first_line(error)}): delete it and run the same "
            "command again; only its content is computed again"
        ) from error
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(schema.names).to_pandas()


def empty_table(schema: pa.Schema) -> pd.DataFrame:
    """Return a table with the schema's columns and no rows."""
    return schema.empty_table().to_pandas()


def png_bytes(image: np.ndarray) -> bytes:
    """Return the lossless PNG of a uint8 RGB image [height, width, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=_PNG_COMPRESSION)
    return buffer.getvalue()


def sha256_of(content: bytes) -> str:
    """Return the hexadecimal sha256 of some bytes."""
    return hashlib.sha256(content).hexdigest()
