"""Validation during a training: scores of the averaged mapper, in rows beside those of the loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from plugins_manifest.documents import parse_json
from plugins_manifest.errors import UserError
from plugins_manifest.files import append_line

VALIDATION = "validation.jsonl"


@dataclass(frozen=True)
class Validation:
    """Scores by name after some step; `is_last` ends the training there."""

    scores: Mapping[str, float]
    is_last: bool = False


# step and averaged mapper -> scores; it runs on the process that writes, the others wait. A step
# whose validation was cut off is validated again after a resume
Validator = Callable[[int, nn.Module], Validation]


def record_validation(folder: Path, step: int, found: Validation) -> None:
    """Append the row of a validation to `validation.jsonl`."""
    mark = {"is_last": True} if found.is_last else {}
    append_line(folder / VALIDATION, json.dumps({"step": step, **found.scores, **mark}))


def read_validations(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of `validation.jsonl`, damaged ones left out; each has its `step`."""
    path = folder / VALIDATION
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    rows = []
    for line in lines:
        try:
            row = parse_json(line, name=VALIDATION)
        except UserError:
            continue  # a killed run may leave half a row
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def recorded_validation(folder: Path, step: int) -> Validation | None:
    """Return the recorded validation of a step; None if there is none."""
    for row in read_validations(folder):
        if row.pop("step") == step:
            return Validation(row, is_last=bool(row.pop("is_last", False)))
    return None
