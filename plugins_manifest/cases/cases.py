"""Cases: the prompts and images that every method gets, from a list or a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from plugins_manifest.cases.case import Case
from plugins_manifest.cases.finished import with_finished_conditions
from plugins_manifest.cases.rows import read_rows
from plugins_manifest.errors import UserError
from plugins_manifest.schema.manifest import FileCases, InlineCase

_LONGEST_PLACE = 80


def inline_cases(
    items: Sequence[InlineCase], *, folder: Path, negative_prompt: str = "", prefix: str = "case"
) -> list[Case]:
    """Return the cases of a list; image paths are relative to `folder`; missing ids are numbered.

    Raises `UserError` for duplicate ids and missing images.
    """
    problems: list[str] = []
    cases: dict[str, Case] = {}
    for i, item in enumerate(items):
        case_id = item.id or f"{prefix}-{i:04d}"
        if case_id in cases:
            problems.append(f"case id {case_id!r} comes twice: rename one")
        for name in (item.image, item.reference, *item.conditions.values()):
            if name is not None and not (folder / name).is_file():
                problems.append(f"case {case_id!r}: there is no image {name!r}: check the path")
        negative = negative_prompt if item.negative_prompt is None else item.negative_prompt
        cases[case_id] = Case(
            case_id,
            item.prompt,
            negative,
            image_path=_joined(folder, item.image),
            condition_paths=tuple((k, str(folder / v)) for k, v in item.conditions.items()),
            reference_path=_joined(folder, item.reference),
        )
    if problems:
        raise UserError.collect(problems)
    return list(cases.values())


def _joined(folder: Path, name: str | None) -> str | None:
    return None if name is None else str(folder / name)


def file_cases(spec: FileCases, *, folder: Path, negative_prompt: str = "") -> list[Case]:
    """Parse the cases of a file (`read_rows`); `UserError` names the file and its problems."""
    path = folder / spec.path
    lines, rows = read_rows(path, name=spec.path)
    try:
        items = TypeAdapter(list[InlineCase]).validate_python(rows)
    except ValidationError as error:
        raise UserError.collect([_problem(e, spec.path, lines) for e in error.errors()]) from error
    if not items:
        raise UserError(f"the case file {spec.path!r} contains no case: add one")
    items = items[: spec.n]
    cases = inline_cases(items, folder=path.parent, negative_prompt=negative_prompt)
    return with_finished_conditions(cases, spec.condition_images, folder=folder)


def _problem(error: Any, name: str, lines: Sequence[int]) -> str:
    place = error["loc"]
    index = place[0] if place and isinstance(place[0], int) else None
    where = name if index is None or index >= len(lines) else f"{name}:{lines[index]}"
    return f"{where}: case {'.'.join(map(str, place))[:_LONGEST_PLACE]}: {error['msg']}"
