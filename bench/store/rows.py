"""Table rows as plain dictionaries in which a missing value is None, never NaN."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

Row = dict[str, Any]


def records(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a table, in order."""
    columns = [(str(name), frame[name].tolist()) for name in frame.columns]
    missing = {str(name): frame[name].isna().tolist() for name in frame.columns}
    return [
        {name: None if missing[name][i] else values[i] for name, values in columns}
        for i in range(len(frame))
    ]


def grouped(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows by the values of some columns, groups and rows in order of appearance."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups
