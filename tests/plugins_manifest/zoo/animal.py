"""What one file of the zoo is, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Cage = Literal["right", "other-kinds", "broken", "unsupported", "not-weights", "hostile"]


@dataclass(frozen=True)
class Animal:
    """A generated file and the truth about it.

    `diffusers` is what diffusers 0.42.1 does with such a file, where that has been tested.
    `table` names the base model that it is inspected against: SD1.5, or a small UNet of
    `tiny.table_of` for files whose real size would be gigabytes. `n_changes` None: not claimed.
    """

    name: str
    says: str
    make: Callable[[], bytes]
    cage: Cage
    verdict: str
    format: str | None = None
    kind: str | None = None
    base_model: str | None = None
    formulas: dict[str, int] = field(default_factory=dict)
    reasons: frozenset[str] = frozenset()
    diffusers: str = ""
    table: str = "sd15"
    suffix: str = ".safetensors"
