"""Open a Parquet file of unknown origin: bounded by its footer, its page checksums verified."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.errors import UserError
from plugins_manifest.text import first_line

MAX_FILE_BYTES = 1 << 30
MAX_ROWS = 5_000_000  # the paper's plan has 43,000 images with some 20 scores each
MAX_UNPACKED_BYTES = 2 << 30


def open_parquet(content: bytes, *, name: str) -> pq.ParquetFile:
    """Return a Parquet file for reading, no page of it read yet.

    `name` is the file's name in messages. Raises `UserError` if it is not Parquet, or if its footer
    states more than `MAX_ROWS` rows or `MAX_UNPACKED_BYTES` bytes.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(content), page_checksum_verification=True)
    except (pa.ArrowException, OSError, OverflowError, ValueError, MemoryError) as error:
        raise UserError(f"{name} is damaged ({first_line(error)})") from error
    check_footer(file.metadata, name=name)
    return file


def check_footer(metadata: pq.FileMetaData, *, name: str) -> None:
    """Raise `UserError` if a footer states more than `MAX_ROWS` rows or `MAX_UNPACKED_BYTES`."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    n_rows = max(metadata.num_rows, sum(group.num_rows for group in groups))
    unpacked = sum(group.total_byte_size for group in groups)
    if not 0 <= n_rows <= MAX_ROWS or not 0 <= unpacked <= MAX_UNPACKED_BYTES:
        raise UserError(
            f"{name} has {n_rows:,} rows of {unpacked:,} bytes; at most {MAX_ROWS:,} "
            f"rows and {MAX_UNPACKED_BYTES:,} bytes are read"
        )


def read_bytes(path: Path, *, name: str) -> bytes:
    """Return the content of a regular file of at most `MAX_FILE_BYTES`, else raise `UserError`."""
    try:
        if not path.is_file():  # a FIFO would wait for ever
            raise UserError(f"{name} is not a file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{name} has more than {MAX_FILE_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror or error})") from error
