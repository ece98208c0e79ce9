"""Rows of case files: JSON, CSV or YAML; every error with its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from plugins_manifest.documents import parse_json, parse_yaml_lines, read_text
from plugins_manifest.errors import UserError
from plugins_manifest.schema.words import MAX_PROMPTS

Rows = tuple[Sequence[int], Any]  # line of each row where it is known, and the rows


def read_rows(path: Path, *, name: str) -> Rows:
    """Return the rows of a case file with their lines; `UserError` for an invalid file.

    A row that is text is a prompt.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"the case file {name!r} has the ending {path.suffix!r}: use {', '.join(_READERS)}"
        )
    lines, rows = reader(read_text(path, name=name), name)
    if not isinstance(rows, list):
        raise UserError(f"the case file {name!r} is not a list of cases: write one")
    if len(rows) > MAX_PROMPTS:
        raise UserError(f"the case file {name!r} has {len(rows)} cases: give at most {MAX_PROMPTS}")
    return lines, [{"prompt": row} if isinstance(row, str) else row for row in rows]


def _json(text: str, name: str) -> Rows:
    return (), parse_json(text, name=name)


def _yaml(text: str, name: str) -> Rows:
    document = parse_yaml_lines(text, name=name)
    if document.problems:
        raise UserError.collect([f"{name}:{line}: {what}" for line, what in document.problems])
    n_rows = len(document.data) if isinstance(document.data, list) else 0
    return [document.lines.get((i,), 1) for i in range(n_rows)], document.data


def _csv(text: str, name: str) -> Rows:
    """Read a table with a header; a cell that is empty is left out."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[int] = []
    rows: list[dict[str, str]] = []
    begun = 1
    try:
        header = [key.strip() for key in next(reader, [])]
        if len(set(header)) < len(header):
            raise UserError(f"{name}:1: a column comes twice in {', '.join(header)[:200]}")
        begun = reader.line_num + 1
        for cells in reader:
            if len(cells) > len(header):
                raise UserError(
                    f"{name}:{begun}: {len(cells)} cells, the header has {len(header)}: put text "
                    "with commas in quotes"
                )
            if any(cells):
                rows.append({k: v for k, v in zip(header, cells, strict=False) if v})
                lines.append(begun)
            begun = reader.line_num + 1
            if len(rows) > MAX_PROMPTS:
                raise UserError(f"{name} has too many cases: give at most {MAX_PROMPTS}")
    except csv.Error as error:
        raise UserError(
            f"{name}:{begun}: not valid CSV ({error}): put text with quotes in quotes and double "
            "them"
        ) from error
    return lines, rows


_READERS: dict[str, Callable[[str, str], Rows]] = {
    ".json": _json,
    ".csv": _csv,
    ".yaml": _yaml,
    ".yml": _yaml,
}
