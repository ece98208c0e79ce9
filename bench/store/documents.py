"""Documents of a run: YAML and JSON files, and the JSON in some cells of its tables.

The cells were written by this program, but a published store may hold any others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.errors import UserError
from plugins_manifest.cases import Case
from plugins_manifest.documents import parse_json, read_json, read_yaml

__all__ = [
    "case_of",
    "left_out_of",
    "members_of",
    "parse_json",
    "paths_of",
    "read_json",
    "read_yaml",
]


def members_of(cell: str | None) -> list[str]:
    """Return the plugin ids in a cell of column `stack`; `UserError` for another value."""
    found = parse_json(cell or "[]", name="column stack")
    if not isinstance(found, list) or not all(isinstance(member, str) for member in found):
        raise _unexpected("stack", "a list of plugins")
    return found


def paths_of(cell: str | None) -> dict[str, str]:
    """Return plugin -> image in a cell of column `conditions`; `UserError` for another value."""
    found = parse_json(cell or "{}", name="column conditions")
    if not isinstance(found, dict) or not all(isinstance(path, str) for path in found.values()):
        raise _unexpected("conditions", "image paths by plugin")
    return found


def left_out_of(cell: str | None) -> dict[str, float]:
    """Return prompt -> number in a cell of column `leave_one_out`; `UserError` otherwise."""
    found = parse_json(cell or "{}", name="column leave_one_out")
    if not isinstance(found, dict) or not all(map(_is_number, found.values())):
        raise _unexpected("leave_one_out", "numbers by prompt")
    return found


def case_of(row: Mapping[str, Any]) -> Case:
    """Return a case of cases.json."""
    pairs = tuple((name, path) for name, path in row.get("condition_paths", ()))
    scene = tuple(row["scene"]) if row["scene"] else None
    return Case(**{**row, "scene": scene, "condition_paths": pairs})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unexpected(column: str, what: str) -> UserError:
    return UserError(f"column {column} does not hold {what}: score or plan the run again")
