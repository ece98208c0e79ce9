"""Parquet tables of pictures: image bytes as in Hugging Face's datasets, or links to images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from bench.errors import UserError, shown_path
from bench.train.schema import TableOptions
from bench.train.sources.entry import CAPTION_KEYS, Entry
from plugins_manifest.text import first_line, shortened

_KNOWN = {
    "image": ("image", "img", "picture", "jpg", "png"),
    "url": ("url", "URL", "image_url"),
    "caption": CAPTION_KEYS,
    "aesthetic": ("aesthetic", "aesthetic_score", "AESTHETIC_SCORE", "aesthetics"),
    "license": ("license", "LICENSE"),
    "width": ("width", "WIDTH", "original_width"),
    "height": ("height", "HEIGHT", "original_height"),
}
_NUMBERS = ("aesthetic", "width", "height")
_KEPT_GROUPS = 4  # row groups in memory: pictures are mostly read in their order


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; None for what it does not have."""

    caption: str
    image: str | None
    url: str | None
    aesthetic: str | None
    license: str | None
    width: str | None
    height: str | None


class Tables:
    """Parquet files that have the columns of the first one."""

    def __init__(self, files: Sequence[Path], options: TableOptions, *, title: str) -> None:
        self.paths, self.options, self.title = list(files), options, title

    @cached_property
    def columns(self) -> Columns:
        """The columns of the first file; `UserError` where one that is needed is missing."""
        path = self.paths[0]
        return _columns_of(_schema_of(path), self.options, shown_path(path))

    def groups(self, wanted: Sequence[str | None]) -> Iterator[tuple[Path, int, Any]]:
        """Yield file, row group and a table of some columns.

        Raises `UserError` for a damaged file, and for one without these columns.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = [name for name in wanted if name is not None]
        first = _schema_of(self.paths[0])
        for path in self.paths[1:]:  # before the first picture
            _require_alike(_schema_of(path), first, names, shown_path(path))
        for path in self.paths:
            try:
                with pq.ParquetFile(path) as file:
                    for group in range(file.num_row_groups):
                        yield path, group, file.read_row_group(group, columns=names)
            except (pa.ArrowException, OSError, KeyError) as error:
                raise UserError(
                    f"{shown_path(path)} cannot be read ({first_line(error)}): replace it"
                ) from error


class TableSource:
    """The pictures in a column of parquet files."""

    def __init__(self, tables: Tables) -> None:
        self._tables, self._columns = tables, tables.columns
        self._groups: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._lock = Lock()

    @property
    def title(self) -> str:
        """The files' place."""
        return self._tables.title

    def files(self) -> Sequence[Path]:
        """Return the parquet files."""
        return self._tables.paths

    def entries(self) -> Iterator[Entry]:
        """Yield a picture for each row that passes the filters."""
        columns = self._columns
        wanted = (columns.caption, *filter_columns(columns, self._tables.options))
        for path, group, table in self._tables.groups(wanted):
            for row in passing_rows(table, columns, self._tables.options):
                name = f"{path.name}, group {group}, row {row}"
                caption = text_at(table, columns.caption, row)
                reason = None if caption else "no caption"
                yield Entry(name, caption, str(path), group, row, reason)

    def content(self, entry: Entry) -> bytes:
        """Return the bytes of a row's picture."""
        import pyarrow as pa

        try:
            value = self._group(entry.file, entry.at)[entry.size].as_py()
        except pa.ArrowException as error:
            raise UserError(f"{entry.name} cannot be read ({first_line(error)})") from error
        if isinstance(value, dict):
            value = value.get("bytes")
        if not value:
            raise UserError(f"{entry.name} has no image bytes")
        return value

    def _group(self, file: str, group: int) -> Any:
        import pyarrow.parquet as pq

        column = self._columns.image
        assert column is not None, "chosen for its images"
        with self._lock:
            key = (file, group)
            if key not in self._groups:
                with pq.ParquetFile(file) as table:
                    self._groups[key] = table.read_row_group(group, columns=[column])[column]
                if len(self._groups) > _KEPT_GROUPS:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(key)
            return self._groups[key]


def _schema_of(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{shown_path(path)} is not a parquet file ({first_line(error)}): replace it"
        ) from error


def _require_alike(schema: Any, first: Any, names: Sequence[str], file: str) -> None:
    for name in names:
        if name not in schema.names:
            raise UserError(
                f"{file} has no column {name!r} as the first file has, only "
                f"{shortened(schema.names, 12)}: tables of different columns need trainings of "
                "their own, or the same names"
            )
        if _is_numeric(schema, name) != _is_numeric(first, name):
            raise UserError(
                f"{file}: column {name!r} is of type {schema.field(name).type}, in the first file "
                f"of type {first.field(name).type}: write one type"
            )


def text_at(table: Any, column: str, row: int) -> str:
    """Return the text of a cell, stripped; of a list its first text; else an empty one."""
    value = table[column][row].as_py()
    if isinstance(value, list):
        value = value[0] if value else ""
    return value.strip() if isinstance(value, str) else ""


def filter_columns(columns: Columns, options: TableOptions) -> tuple[str | None, ...]:
    """Return the columns that the filters read."""
    aesthetic = None if options.min_aesthetic is None else columns.aesthetic
    return aesthetic, None if options.licenses is None else columns.license


def passing_rows(table: Any, columns: Columns, options: TableOptions) -> Iterator[int]:
    """Yield the rows of a table that pass the filters by score and license."""
    scores = licenses = None
    if options.min_aesthetic is not None and columns.aesthetic is not None:
        scores = table[columns.aesthetic].to_pylist()
    if options.licenses is not None and columns.license is not None:
        licenses = table[columns.license].to_pylist()
    least, allowed = options.min_aesthetic or 0.0, set(options.licenses or ())
    for row in range(len(table)):
        if scores is not None and not (scores[row] is not None and scores[row] >= least):
            continue
        if licenses is None or licenses[row] in allowed:
            yield row


def _columns_of(schema: Any, options: TableOptions, file: str) -> Columns:
    names, found = list(schema.names), {}
    given = {"image": options.image, "url": options.url, "caption": options.caption}
    for role, known in _KNOWN.items():
        name = given.get(role)
        if name is not None and name not in names:
            raise UserError(
                f"data.{role}: {file} has no column {name!r}: use {shortened(names, 12)}"
            )
        if name is not None and not _fits(schema, name, role):
            raise UserError(
                f"data.{role}: column {name!r} of {file} is of type {schema.field(name).type}, not "
                "of image bytes: name links by data.url"
            )
        usual = (one for one in known if one in names and _fits(schema, one, role))
        found[role] = name or next(usual, None)
    needed = {"caption": True, "aesthetic": options.min_aesthetic is not None}
    needed["license"] = options.licenses is not None
    for role, is_needed in needed.items():
        if is_needed and found[role] is None:
            fix = f"name it by data.{role}" if role in given else "leave the filter out"
            if role == "aesthetic" and (texts := [n for n in _KNOWN[role] if n in names]):
                raise UserError(
                    f"{file}: column {texts[0]!r} is of type {schema.field(texts[0]).type}, no "
                    "numbers that data.min_aesthetic compares: write numbers, or leave it out"
                )
            raise UserError(
                f"{file} has no column for the {role} among {shortened(names, 12)}: {fix}"
            )
    if found["image"] is None and found["url"] is None:
        raise UserError(
            f"{file} has neither images nor links among {shortened(names, 12)}: name the column by "
            "data.image or data.url"
        )
    return Columns(**found)


def _fits(schema: Any, name: str, role: str) -> bool:
    """Return whether a column's type is that of its role: an `image` may also be a link."""
    from pyarrow import types

    if role in _NUMBERS:
        return _is_numeric(schema, name)
    kind = schema.field(name).type
    is_bytes = types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    return is_bytes if role == "image" else True


def _is_numeric(schema: Any, name: str) -> bool:
    """Return whether a column has numbers, or nothing at all."""
    from pyarrow import types

    kind = schema.field(name).type
    tests = (types.is_integer, types.is_floating, types.is_decimal, types.is_null)
    return any(test(kind) for test in tests)
