"""A run's Parquet files as DuckDB tables with exactly the published columns of `TABLES`.

Columns that an older run lacks are null, values of another type become null, and a file that
cannot be read is left out and named in `problems`: a damaged run still opens. Rows whose key
occurs twice count once. Text longer than `MAX_TEXT_BYTES` is cut; its hash keeps different texts
different.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from bench.errors import UserError
from bench.store import PUBLISHED, TABLES, Row
from leaderboard.data.catalog import Run
from leaderboard.data.footers import checked_files, shown_name

_TYPES = {"string": "VARCHAR", "double": "DOUBLE", "int64": "BIGINT", "bool": "BOOLEAN"}
# scores stay in their files: a run may have millions
_IN_PLACE = {"scores"}
_SETTING = "plugin, method, t0, plugin_scale, adapter_scale, adapter"
_KEYS = {
    "trials": "trial_id",
    "results": "trial_id",
    "scores": "trial_id, plugin, metric, recipe, level",
    "summary": f"{_SETTING}, metric, recipe",
    "compatibility": f"level, {_SETTING}",
}
_UNKEYED = {"scores": "trial_id IS NULL"}  # scores of a group have no trial
MAX_TEXT_BYTES = 10_000
_SHOWN_CHARACTERS = 2000
_MEMORY = "512MB"


class TablesError(UserError):
    """A run's tables changed or were removed while a page read them."""


class RunTables:
    """The tables of one run; thread-safe for reading."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.problems: list[str] = list(run.problems)
        files = {
            name: checked_files(
                run.tables.get(name, ()), columns, self.problems, title=TABLES[name].title
            )
            for name, columns in PUBLISHED.items()
        }
        self._types = {path: types for kept in files.values() for path, types in kept.items()}
        self._connection = _connect([path for paths in files.values() for path in paths])
        for name, columns in PUBLISHED.items():
            self._load(name, columns, list(files[name]))
        self._make_images()

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pd.DataFrame:
        """Return the rows of a query over `trials`, `results`, `images`, `scores`, ... .

        Raises `TablesError`, as do `rows` and `count`, if a file was removed since.
        """
        with self._reading() as cursor:
            return cursor.execute(sql, parameters).df()

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """Return the rows of a query as mappings, missing values as None."""
        with self._reading() as cursor:
            cursor.execute(sql, parameters)
            names = [column[0] for column in cursor.description or ()]
            found = cursor.fetchall()
        return [
            {
                n: None if isinstance(v, float) and isnan(v) else v
                for n, v in zip(names, row, strict=True)
            }
            for row in found
        ]

    def arrow(self, sql: str, parameters: Mapping[str, Any]) -> pa.Table:
        """Return the rows of a query as columns, without an object for each value."""
        with self._reading() as cursor:
            return cursor.sql(sql, params=parameters).to_arrow_table()

    def beside(self, sql: str, parameters: Mapping[str, Any], other: pa.Table) -> pa.Table:
        """Return the rows of a query that may also read rows of another run as table `other`."""
        with self._reading() as cursor:
            cursor.register("other", other)
            return cursor.sql(sql, params=parameters).to_arrow_table()

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        return int(self.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"])

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            yield self._connection.cursor()
        except duckdb.Error as error:
            raise TablesError(
                f"run {self.run.key!r} changed while it was read, or is too large: reload the page"
            ) from error

    def _load(self, name: str, columns: pa.Schema, paths: Sequence[Path]) -> None:
        readable = self._readable(name, columns, paths)
        kind = "VIEW" if name in _IN_PLACE else "TABLE"
        if not readable:
            empty = ", ".join(f"NULL::{_TYPES[str(c.type)]} AS {c.name}" for c in columns)
            self._connection.execute(f"CREATE TABLE {name} AS SELECT {empty} LIMIT 0")
            return
        try:
            sql = f"SELECT {{}} FROM ({self._select(columns, readable)})"
            if name in _KEYS:
                sql += self._once(name, sql, readable)
            kept = ", ".join(columns.names)
            self._connection.execute(f"CREATE {kind} {name} AS {sql.format(kept)}")
        except duckdb.OutOfMemoryException:
            self.problems.append(f"{TABLES[name].title} cannot be read: more than {_MEMORY}.")
            self._load(name, columns, ())
        except duckdb.Error:  # damage beyond the footer, which is all that was looked at so far
            self.problems.append(f"{TABLES[name].title} cannot be read: their file is damaged.")
            self._load(name, columns, ())

    def _select(self, columns: pa.Schema, paths: Sequence[Path]) -> str:
        """Return the query of a table's columns, with the number of the file as `part`.

        Files whose columns have other types are read apart: DuckDB would convert them into each
        other's types, and fail where it cannot.
        """
        alike: dict[str, list[Path]] = {}
        for path in paths:
            alike.setdefault(self._types[path], []).append(path)
        part = f"list_position({_names(paths)}, filename) AS part"
        selects = []
        for group in alike.values():
            source = f"read_parquet({_literals(group)}, union_by_name = true, filename = true)"
            present = set(self._connection.execute(f"SELECT * FROM {source} LIMIT 0").df().columns)
            chosen = ", ".join(_column(c, present) for c in columns)
            selects.append(f"SELECT {chosen}, {part} FROM {source}")
        return " UNION ALL ".join(selects)

    def _once(self, name: str, sql: str, paths: Sequence[Path]) -> str:
        """Return the clause that keeps one row of each key, if there is any key twice."""
        key, free = _KEYS[name], _UNKEYED.get(name, "false")
        counts = f"count(*) FILTER (WHERE NOT ({free})) - "
        counts += f"count(DISTINCT hash({key})) FILTER (WHERE NOT ({free}))"
        (n_doubled,) = self._connection.execute(sql.format(counts)).fetchone() or (0,)
        if n_doubled <= 0:
            return ""
        # resumed runs write a trial's result again, into a newer part
        if name != "results" or len(paths) == 1:
            title = TABLES[name].title
            self.problems.append(f"{title}: {n_doubled:,} rows occur twice and count once.")
        newest = f"row_number() OVER (PARTITION BY {key} ORDER BY part DESC) = 1"
        return f" QUALIFY {newest} OR ({free})"

    def _readable(self, name: str, columns: pa.Schema, paths: Sequence[Path]) -> list[Path]:
        # files read in place are read completely once: damage found later would break a page
        if paths and self._opens(name, columns, paths):
            return list(paths)
        readable = [path for path in paths if self._opens(name, columns, [path])]
        for path in sorted(set(paths) - set(readable)):
            self.problems.append(f"{TABLES[name].title}: {shown_name(path)} is damaged, left out.")
        return readable

    def _opens(self, name: str, columns: pa.Schema, paths: Sequence[Path]) -> bool:
        try:
            wanted = "bit_xor(hash(t))" if name in _IN_PLACE else "count(*)"
            limit = "" if name in _IN_PLACE else " LIMIT 0"
            sql = f"SELECT {wanted} FROM ({self._select(columns, paths)}{limit}) t"
            self._connection.execute(sql).fetchall()
        except duckdb.Error:
            return False
        return True

    def _make_images(self) -> None:
        """Create `images`: each trial with its result; `setting` numbers settings."""
        self._connection.execute(
            "CREATE TABLE images AS SELECT t.*, r.status, r.image, r.thumbnail, r.image_sha256, "
            "r.seconds, r.effective_t0, r.error, dense_rank() OVER "
            "(ORDER BY t.method, t.adapter, t.t0, t.plugin_scale, t.adapter_scale) AS setting "
            "FROM trials t LEFT JOIN results r USING (trial_id)"
        )


def _connect(paths: Sequence[Path]) -> duckdb.DuckDBPyConnection:
    """Open a database in memory that can read these files and nothing else."""
    connection = duckdb.connect(":memory:", config={"threads": 2})
    for setting in (
        f"memory_limit = '{_MEMORY}'",
        "temp_directory = ''",  # more memory than the limit is an error, never a file
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "allow_community_extensions = false",
        "python_enable_replacements = false",
        # DuckDB compares the names as written, and again after resolving patterns
        f"allowed_paths = {_names(paths)[:-1]}{', ' if paths else ''}{_literals(paths)[1:]}",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def _column(column: pa.Field, present: set[str]) -> str:
    kind = _TYPES[str(column.type)]
    if column.name not in present:
        return f"NULL::{kind} AS {column.name}"
    value = f'TRY_CAST("{column.name}" AS {kind})'
    if kind == "VARCHAR":
        shown = f"left({value}, {_SHOWN_CHARACTERS}) || '… (' || length({value})"
        shown += f" || ' characters, MD5 ' || md5({value}) || ')'"
        value = f"CASE WHEN strlen({value}) > {MAX_TEXT_BYTES} THEN {shown} ELSE {value} END"
    return f"{value} AS {column.name}"


def _literals(paths: Sequence[Path]) -> str:
    """Return file names as a SQL list of literals, glob characters escaped."""
    return _names([Path("".join(f"[{c}]" if c in "*?[" else c for c in str(p))) for p in paths])


def _names(paths: Sequence[Path]) -> str:
    """Return file names as a SQL list of literals."""
    return "[" + ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths) + "]"


def plugins_of(tables: RunTables) -> list[str]:
    """Return the plugins and stacks that a run evaluates."""
    rows = tables.rows("SELECT DISTINCT plugin FROM trials WHERE plugin <> '' ORDER BY plugin")
    return [row["plugin"] for row in rows]
