"""Cases: the prompts and images that every method gets, from a list or a file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from plugins_manifest.cases.case import Case
from plugins_manifest.cases.finished import with_finished_conditions
from plugins_manifest.cases.rows import read_rows
from plugins_manifest.errors import UserError, unknown_name
from plugins_manifest.installed import installed
from plugins_manifest.schema.manifest import FileCases, InlineCase
from plugins_manifest.schema.messages import explain
from plugins_manifest.schema.words import FINISHED_CONDITIONS

_ID_DIGITS = 12


def unnamed_id(prefix: str, prompt: str) -> str:
    """Return the id of a case without one: it follows from the prompt, never from the place."""
    return f"{prefix}-{hashlib.sha256(prompt.encode()).hexdigest()[:_ID_DIGITS]}"


def inline_cases(
    items: Sequence[InlineCase], *, folder: Path, negative_prompt: str = "", prefix: str = "case"
) -> list[Case]:
    """Return the cases of a list; image paths are relative to `folder`.

    A missing id is the prompt's hash (`unnamed_id`); those of equal prompts are numbered from the
    second on, -2, -3. Raises one `UserError` for duplicate ids and missing images.
    """
    rows = [_Row("", item) for item in items]
    problems: list[str] = []
    cases = _cases_of(rows, problems, folder=folder, negative_prompt=negative_prompt, prefix=prefix)
    if problems:
        raise UserError.collect(problems)
    return cases


class _Row(NamedTuple):
    """A case with its place in a file, "NAME:LINE: " or empty."""

    place: str
    item: InlineCase


def _cases_of(
    rows: Sequence[_Row], problems: list[str], *, folder: Path, negative_prompt: str, prefix: str
) -> list[Case]:
    cases: dict[str, Case] = {}
    seen: Counter[str] = Counter()
    known = (*installed("detectors"), *FINISHED_CONDITIONS)
    for place, item in rows:
        case_id = item.id or _next_id(unnamed_id(prefix, item.prompt), seen)
        if case_id in cases:
            problems.append(f"{place}case id {case_id!r} comes twice: rename one")
        named = (("image", item.image), ("reference", item.reference), *item.conditions.items())
        problems += [
            f"{place}case {case_id!r}: there is no image {name!r} ({what}): check the path"
            for what, name in named
            if name is not None and not (folder / name).is_file()
        ]
        problems += [
            f"{place}case {case_id!r}: {unknown_name('condition', what, known)}"
            for what in item.conditions
            if what not in known
        ]
        negative = negative_prompt if item.negative_prompt is None else item.negative_prompt
        cases[case_id] = Case(
            case_id,
            item.prompt,
            negative,
            image_path=_joined(folder, item.image),
            condition_paths=tuple((k, str(folder / v)) for k, v in item.conditions.items()),
            reference_path=_joined(folder, item.reference),
        )
    return list(cases.values())


def _next_id(case_id: str, seen: Counter[str]) -> str:
    seen[case_id] += 1
    return case_id if seen[case_id] == 1 else f"{case_id}-{seen[case_id]}"


def _joined(folder: Path, name: str | None) -> str | None:
    return None if name is None else str(folder / name)


def file_cases(spec: FileCases, *, folder: Path, negative_prompt: str = "") -> list[Case]:
    """Parse the cases of a file (`read_rows`); one `UserError` for all its problems, with lines."""
    path = folder / spec.path
    found, problems = read_rows(path, name=spec.path)
    if not found and not problems:
        raise UserError(f"the case file {spec.path!r} contains no case: add one")
    rows = list(_valid_rows(found[: spec.n], problems, name=spec.path))
    cases = _cases_of(
        rows, problems, folder=path.parent, negative_prompt=negative_prompt, prefix="case"
    )
    if problems:
        raise UserError.collect(problems)
    return with_finished_conditions(cases, spec.condition_images, folder=folder)


def _valid_rows(
    found: Sequence[tuple[int | None, Any]], problems: list[str], *, name: str
) -> Iterator[_Row]:
    data: dict[Hashable, Any] = {"cases": [row for _, row in found]}
    for i, (line, row) in enumerate(found):
        place = f"{name}: " if line is None else f"{name}:{line}: "
        try:
            yield _Row(place, InlineCase.model_validate(row))
        except ValidationError as error:
            problems += [
                place + explain({**e, "loc": ("cases", i, *e["loc"])}, data) for e in error.errors()
            ]
