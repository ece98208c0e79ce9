"""Captions of a folder's images in one file: Hugging Face's metadata.jsonl or metadata.csv."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.errors import UserError, shown_path
from bench.train.sources.entry import CAPTION_KEYS, caption_in
from plugins_manifest.documents import parse_json, read_content, read_text
from plugins_manifest.tables import csv_rows

_MOST_BYTES = 1 << 30
_FILE = "file_name"
_Records = Iterator[tuple[int, Any]]  # the line of each record, and the record


def captions_listed(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the captions in metadata files by the paths of the images that they name.

    Raises `UserError` with the line of what cannot be used, and where two lines have different
    captions for one image.
    """
    found: dict[Path, str] = {}
    places: dict[Path, str] = {}
    for path in paths:
        name = shown_path(path)
        for number, facts in METADATA[path.name](path):
            file = facts.get(_FILE) if isinstance(facts, dict) else None
            if not isinstance(file, str) or not file:
                raise UserError(f"{name}:{number}: {_FILE} is missing: add it")
            target = Path(os.path.normpath(path.parent / file))
            if not target.is_relative_to(path.parent):
                raise UserError(f"{name}:{number}: {file!r} is outside of its folder")
            caption, first = caption_in(facts), places.setdefault(target, f"{name}:{number}")
            if found.setdefault(target, caption) != caption:
                raise UserError(
                    f"{name}:{number}: {file!r} has another caption in {first}: keep one of them"
                )
    return found


def _json_lines(path: Path) -> _Records:
    name = shown_path(path)
    content = read_content(path, name=path.name, most_bytes=_MOST_BYTES)
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            yield number, parse_json(line, name=name, starts_at=number)


def _table(path: Path) -> _Records:
    """Yield the rows of a table with a header; `UserError` for one without the two columns."""
    name = shown_path(path)
    text = read_text(path, name=path.name, most_bytes=_MOST_BYTES)
    problems: list[str] = []
    rows = csv_rows(text, name=name, problems=problems)
    _, header = next(rows, (1, []))
    if not problems and (_FILE not in header or not set(CAPTION_KEYS) & set(header)):
        problems.append(
            f"{name}:1: the columns are {', '.join(header)[:200] or 'missing'}: name two of them "
            f"{_FILE} and text, separated by a comma"
        )
    records = [(line, dict(zip(header, cells, strict=False))) for line, cells in rows]
    if problems:
        raise UserError.collect(problems)
    yield from records


METADATA: dict[str, Callable[[Path], _Records]] = {
    "metadata.jsonl": _json_lines,
    "metadata.csv": _table,
}
