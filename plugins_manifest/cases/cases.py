"""Cases: the prompts and images that every method gets, from a list or a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from plugins_manifest.cases.case import Case
from plugins_manifest.cases.finished import with_finished_conditions
from plugins_manifest.errors import UserError
from plugins_manifest.schema.manifest import FileCases, InlineCase


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
    """Parse the cases of a JSON, CSV or YAML file; `UserError` names the file and its problems."""
    path = folder / spec.path
    try:
        rows = _read_rows(path)
        items = TypeAdapter(list[InlineCase]).validate_python(rows)
    except OSError as error:
        raise UserError(f"the case file {spec.path!r} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problems = [
            f"{spec.path}: case {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()
        ]
        raise UserError.collect(problems) from error
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"the case file {spec.path!r} cannot be parsed: {error}") from error
    if not items:
        raise UserError(f"the case file {spec.path!r} contains no case: add one")
    items = items[: spec.n]
    cases = inline_cases(items, folder=path.parent, negative_prompt=negative_prompt)
    return with_finished_conditions(cases, spec.condition_images, folder=folder)


def _read_rows(path: Path) -> Any:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(text))
        return [{k: v for k, v in row.items() if v not in (None, "")} for row in rows]
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix in (".yaml", ".yml"):
        return yaml.safe_load(text)
    raise ValueError(f"its ending is {path.suffix!r}: use .json, .csv or .yaml")
