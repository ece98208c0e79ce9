"""Numbers in files that people write: neither text nor truth values, and bounded."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from plugins_manifest.schema.words import (
    MAX_CASES,
    MAX_CLIP_SKIP,
    MAX_PROMPTS,
    MAX_SEED,
    MAX_STRENGTH,
)

_WITH_EXPONENT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+")


def _whole(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("write a whole number")
    return value


def _number(value: Any) -> Any:
    """Return a number; YAML 1.1 reads 1e-3, without a dot, as text."""
    if isinstance(value, str) and _WITH_EXPONENT.fullmatch(value):
        return float(value)
    if isinstance(value, bool | str):
        raise ValueError("write a number")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Strength = Annotated[Number, Field(ge=-MAX_STRENGTH, le=MAX_STRENGTH)]
Steps = Annotated[Whole, Field(ge=1, le=1000)]
GuidanceScale = Annotated[Strength, Field(ge=0)]
ClipSkip = Annotated[Whole, Field(ge=1, le=MAX_CLIP_SKIP)]
Seed = Annotated[Whole, Field(ge=0, le=MAX_SEED)]
CaseCount = Annotated[Whole, Field(ge=1, le=MAX_CASES)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_PROMPTS)]
