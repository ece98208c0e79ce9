"""A run's Parquet files as DuckDB tables with exactly the published columns of `TABLES`.

Columns that an older run lacks are null, values of another type become null, and a file that
cannot be read is left out and named in `problems`: a damaged run still opens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from bench.store import PUBLISHED, TABLES, Row
from leaderboard.data.catalog import Run

_TYPES = {"string": "VARCHAR", "double": "DOUBLE", "int64": "BIGINT", "bool": "BOOLEAN"}
# scores stay in their files: a run may have millions
_IN_PLACE = {"scores"}


class RunTables:
    """The tables of one run; thread-safe for reading."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.problems: list[str] = list(run.problems)
        self._connection = duckdb.connect(":memory:", config={"threads": 2})
        self._connection.execute("SET memory_limit = '512MB'")
        self._connection.execute("SET python_enable_replacements = false")
        for name, columns in PUBLISHED.items():
            self._load(name, columns, run.tables.get(name, ()))
        self._make_images()

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pd.DataFrame:
        """Return the rows of a query over `trials`, `results`, `images`, `scores`, ... ."""
        return self._connection.cursor().execute(sql, parameters).df()

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """Return the rows of a query as mappings, missing values as None."""
        cursor = self._connection.cursor().execute(sql, parameters)
        names = [column[0] for column in cursor.description or ()]
        return [
            {
                n: None if isinstance(v, float) and isnan(v) else v
                for n, v in zip(names, row, strict=True)
            }
            for row in cursor.fetchall()
        ]

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        found = self._connection.cursor().execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(found[0]) if found else 0

    def _load(self, name: str, columns: pa.Schema, paths: Sequence[Path]) -> None:
        readable = self._readable(name, paths)
        kind = "VIEW" if name in _IN_PLACE else "TABLE"
        if not readable:
            empty = ", ".join(f"NULL::{_TYPES[str(c.type)]} AS {c.name}" for c in columns)
            self._connection.execute(f"CREATE TABLE {name} AS SELECT {empty} LIMIT 0")
            return
        source = f"read_parquet({_literals(readable)}, union_by_name = true, filename = true)"
        present = set(self._connection.execute(f"SELECT * FROM {source} LIMIT 0").df().columns)
        chosen = ", ".join(_column(c, present) for c in columns)
        sql = f"CREATE {kind} {name} AS SELECT {chosen} FROM {source}"
        if name == "results":  # the newest part of a trial wins
            order = f"list_position({_literals(readable)}, filename)"
            sql += f" QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY {order} DESC) = 1"
        try:
            self._connection.execute(sql)
        except duckdb.Error:  # damage beyond the footer, which is all that was looked at so far
            self.problems.append(f"{TABLES[name].title} cannot be read: their file is damaged.")
            self._load(name, columns, ())

    def _readable(self, name: str, paths: Sequence[Path]) -> list[Path]:
        # files read in place are read completely once: damage found later would break a page
        wanted = "bit_xor(hash(t))" if name in _IN_PLACE else "*"
        if paths and self._opens(paths, wanted):
            return list(paths)
        readable = [path for path in paths if self._opens([path], wanted)]
        for path in sorted(set(paths) - set(readable)):
            self.problems.append(f"{TABLES[name].title}: {path.name} is damaged and left out.")
        return readable

    def _opens(self, paths: Sequence[Path], wanted: str) -> bool:
        source = f"read_parquet({_literals(paths)}, union_by_name = true) t"
        try:
            limit = "LIMIT 0" if wanted == "*" else ""
            self._connection.execute(f"SELECT {wanted} FROM {source} {limit}").fetchall()
        except duckdb.Error:
            return False
        return True

    def _make_images(self) -> None:
        """Create `images`: each trial with its result; `setting` numbers method, t0 and scales."""
        self._connection.execute(
            "CREATE TABLE images AS SELECT t.*, r.status, r.image, r.thumbnail, r.image_sha256, "
            "r.seconds, r.effective_t0, r.error, dense_rank() OVER "
            "(ORDER BY t.method, t.t0, t.plugin_scale, t.adapter_scale) AS setting "
            "FROM trials t LEFT JOIN results r USING (trial_id)"
        )


def _column(column: pa.Field, present: set[str]) -> str:
    kind = _TYPES[str(column.type)]
    source = f'TRY_CAST("{column.name}" AS {kind})' if column.name in present else f"NULL::{kind}"
    return f"{source} AS {column.name}"


def _literals(paths: Sequence[Path]) -> str:
    """Return file names as a SQL list of literals, glob characters escaped."""
    quoted = []
    for path in paths:
        name = "".join(f"[{c}]" if c in "*?[" else c for c in str(path))
        quoted.append("'" + name.replace("'", "''") + "'")
    return "[" + ", ".join(quoted) + "]"


def plugins_of(tables: RunTables) -> list[str]:
    """Return the plugins and stacks that a run evaluates."""
    rows = tables.rows("SELECT DISTINCT plugin FROM trials WHERE plugin <> '' ORDER BY plugin")
    return [row["plugin"] for row in rows]
