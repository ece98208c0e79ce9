"""Rows of case files: text, JSON, JSON lines, CSV or YAML; every error with its line."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plugins_manifest.documents import (
    parse_json,
    parse_json_lines,
    parse_yaml_lines,
    read_text,
)
from plugins_manifest.errors import UserError, unknown_name
from plugins_manifest.schema.manifest import InlineCase
from plugins_manifest.schema.words import MAX_PROMPTS
from plugins_manifest.tables import csv_rows

Rows = list[tuple[int | None, Any]]  # the line of each row, if known, and the row
_COMMENT = "#"  # of text files
_CONDITION = "conditions."  # of a column, before the condition's name


def read_rows(path: Path, *, name: str) -> tuple[Rows, list[str]]:
    """Return the rows of a case file with their lines, and the problems of the others.

    A row that is text is a prompt. Raises `UserError` for a file that cannot be read at all.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"the case file {name!r} has the ending {path.suffix!r}: use {', '.join(_READERS)}"
        )
    problems: list[str] = []
    rows = reader(read_text(path, name=name), name, problems)
    if len(rows) > MAX_PROMPTS:
        raise UserError(f"the case file {name!r} has {len(rows)} cases: give at most {MAX_PROMPTS}")
    return [(n, {"prompt": row} if isinstance(row, str) else row) for n, row in rows], problems


def _text(text: str, name: str, problems: list[str]) -> Rows:
    """Read a prompt a line; blank lines and those that begin with `#` are left out."""
    lines = ((n, line.strip()) for n, line in enumerate(io.StringIO(text, newline=None), 1))
    return [(n, line) for n, line in lines if line and not line.startswith(_COMMENT)]


def _json(text: str, name: str, problems: list[str]) -> Rows:
    document = parse_json_lines(text, name=name)
    return _listed(document.data, name, [document.lines.get((i,)) for i in range(_n(document))])


def _jsonl(text: str, name: str, problems: list[str]) -> Rows:
    """Read a JSON value a line; blank lines are left out."""
    rows: Rows = []
    for n, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            try:
                rows.append((n, parse_json(line.strip(), name=name, starts_at=n)))
            except UserError as error:
                problems += error.problems
    return rows


def _yaml(text: str, name: str, problems: list[str]) -> Rows:
    document = parse_yaml_lines(text, name=name)
    problems += [f"{name}:{line}: {what}" for line, what in document.problems]
    return _listed(document.data, name, [document.lines.get((i,)) for i in range(_n(document))])


def _n(document: Any) -> int:
    return len(document.data) if isinstance(document.data, list) else 0


def _listed(data: Any, name: str, lines: list[int | None]) -> Rows:
    if not isinstance(data, list):
        raise UserError(f"the case file {name!r} is not a list of cases: write one")
    return list(zip(lines, data, strict=True))


def _csv(text: str, name: str, problems: list[str]) -> Rows:
    """Read a table with a header; a cell that is empty is left out."""
    found = csv_rows(text, name=name, problems=problems)
    _, header = next(found, (1, []))
    _check_header(header, name)
    rows: Rows = []
    for line, cells in found:
        rows.append((line, _case_of(dict(zip(header, cells, strict=False)))))
        if len(rows) > MAX_PROMPTS:
            raise UserError(f"{name} has too many cases: give at most {MAX_PROMPTS}")
    return rows


def _check_header(header: list[str], name: str) -> None:
    known = [key for key in InlineCase.model_fields if key != "conditions"]
    columns = [*known, f"{_CONDITION}NAME"]
    problems = [
        f"{name}:1: {unknown_name('column', key, columns)}"
        for key in dict.fromkeys(header)
        if key not in known and not key.startswith(_CONDITION)
    ]
    if len(set(header)) < len(header):
        problems.append(f"{name}:1: a column comes twice in {', '.join(header)[:200]}")
    if problems:
        raise UserError.collect(problems)


def _case_of(cells: dict[str, str]) -> dict[str, Any]:
    """Return a row as a case, with its columns `conditions.NAME` as one mapping."""
    row: dict[str, Any] = {}
    for key, value in cells.items():
        if value and key.startswith(_CONDITION):
            row.setdefault("conditions", {})[key.removeprefix(_CONDITION)] = value
        elif value:
            row[key] = value
    return row


_READERS: dict[str, Callable[[str, str, list[str]], Rows]] = {
    ".txt": _text,
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".yaml": _yaml,
    ".yml": _yaml,
}
