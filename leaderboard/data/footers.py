"""Check a table's file before DuckDB reads it: a regular file whose footer is within bounds.

Only the footer is read, so a file that states 300 million rows costs nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.errors import UserError
from bench.store.parquet import MAX_FILE_BYTES, MAX_ROWS, check_footer

MAX_FOOTER_BYTES = 16 << 20  # unpacked it takes several times its size
MAX_COLUMNS = 1000
_TAIL_BYTES = 8  # length of the footer and the magic number


def checked_files(
    paths: Iterable[Path], columns: pa.Schema, problems: list[str], *, title: str
) -> dict[Path, str]:
    """Return the files that can be read, with the types of their columns as text.

    Each of the others becomes a problem. All files of a table together have at most `MAX_ROWS`
    rows: those beyond are left out.
    """
    kept: dict[Path, str] = {}
    n_rows = 0
    for path in paths:
        try:
            metadata = _footer(path)
            if n_rows + metadata.num_rows > MAX_ROWS:
                raise UserError(f"with it the table has more than {MAX_ROWS:,} rows")
            kept[path] = _types(metadata, columns)
        except UserError as error:
            problems.append(f"{title}: {shown_name(path)} cannot be read and is left out ({error})")
            continue
        n_rows += metadata.num_rows
    return kept


def shown_name(path: Path) -> str:
    """Return a file's name as text that can be encoded."""
    return path.name.encode(errors="backslashreplace").decode()


def _types(metadata: pq.FileMetaData, columns: pa.Schema) -> str:
    try:
        found = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, ValueError) as error:
        raise UserError("damaged") from error
    return " ".join(f"{f.name}:{f.type}" for f in found if f.name in columns.names)


def _footer(path: Path) -> pq.FileMetaData:
    """Return the footer of a file; `UserError` if the file is not to be read."""
    try:
        str(path).encode()
        if not path.is_file():  # a FIFO would wait for ever
            raise UserError("not a file" if path.exists() else "missing")
        _check_size(path)
        metadata = pq.read_metadata(path)
    except UnicodeEncodeError as error:
        raise UserError("its name is not UTF-8") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError("damaged") from error
    check_footer(metadata, name="it")
    if metadata.num_columns > MAX_COLUMNS:
        raise UserError(f"{metadata.num_columns:,} columns, at most {MAX_COLUMNS:,} are read")
    return metadata


def _check_size(path: Path) -> None:
    n_bytes = path.stat().st_size
    if n_bytes > MAX_FILE_BYTES:
        raise UserError(f"{n_bytes:,} bytes, at most {MAX_FILE_BYTES:,} are read")
    with path.open("rb") as file:
        file.seek(-min(_TAIL_BYTES, n_bytes), 2)
        tail = file.read(_TAIL_BYTES)
    if tail[4:] != b"PAR1":
        raise UserError("damaged")
    (footer_bytes,) = struct.unpack("<I", tail[:4])
    if footer_bytes > MAX_FOOTER_BYTES:
        raise UserError(f"a footer of {footer_bytes:,} bytes")
