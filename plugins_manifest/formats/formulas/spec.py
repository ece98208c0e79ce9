"""The description of a formula: its keys, its parts, and the size of the weight that they imply.

Legend of all formulas: o out, i in, r rank, k the product of the kernel's sides. A weight is
o x (i k).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Style = Literal["kohya", "peft", "attn-procs", "diffusers-lora", "xlabs"]

SHARED = "any"
"""The family of keys that belong to whatever formula their module has."""

SHARED_KEYS: Mapping[str, str] = MappingProxyType({".alpha": "alpha", ".dora_scale": "dora_scale"})
# Vectors along one side of the weight (DoRA): per output, or per input where the format allows it.
_SHARED_VECTORS = {"dora_scale": ("out", "in"), "magnitude": ("out",)}


class ShapeError(ValueError):
    """Parts whose shapes contradict each other."""


@dataclass(frozen=True)
class Size:
    """The size of the weight that the parts were made for; None where they leave it open."""

    n_out: int | None
    n_in_flat: int | None
    kernel: Shape | None = None


@dataclass(frozen=True)
class KeyPart:
    """A key taken apart: module as written, formula family, part, and who writes keys so."""

    module: str
    family: str
    part: str
    style: Style
    is_bias: bool = False


ALPHA, DECOMPOSABLE = "alpha", "alpha dora_scale"


@dataclass(frozen=True)
class FormulaSpec:
    """One formula, apart from its tensor math.

    `keys` maps the end of a key (one or two dots) to the part that the key holds, `bias_keys` the
    same for changes of the bias. `split` takes keys apart that no ending describes; it gets the
    key and all keys of the file. A complete formula has the
    parts of one of `needed` and any of `optional`, names separated by spaces.
    `size` computes the weight's size and raises `ShapeError` or IndexError for impossible shapes.
    `math` is "module:function" of the change, as `runners.weights` computes it.

    Formulas of one `family` (default: the formula's own name) share their keys; those that are
    not named as the family are chosen where `applies` holds for the parts' shapes. `renames` maps
    parts of older files to today's names, by their shapes. `vectors` are parts along a side of the
    weight, `flags` parts of one number, 0 or 1. The change is zero where each of `zero_parts` has
    a part that is all zero; without any it never is. The first side of `rank_parts` is the rank,
    which alpha is divided by: without any of them alpha does not count. With `reads_settings` the
    scale may stand outside of the tensors. `fits_vectors`: changes biases and
    norms too. A file with formulas of `kind` lora alone is a LoRA.
    """

    name: str
    math: str
    needed: tuple[str, ...]
    size: Callable[[Shapes], Size]
    keys: Mapping[str, str] = field(default_factory=dict)
    bias_keys: Mapping[str, str] = field(default_factory=dict)
    split: Callable[[str, Collection[str]], KeyPart | None] | None = None
    optional: str = ALPHA
    family: str = ""
    applies: Callable[[Shapes], bool] | None = None
    renames: Callable[[Shapes], Mapping[str, str]] | None = None
    vectors: Mapping[str, tuple[Literal["out", "in"], ...]] = field(default_factory=dict)
    flags: frozenset[str] = frozenset()
    zero_parts: tuple[tuple[str, ...], ...] = ()
    rank_parts: tuple[str, ...] = ()
    reads_settings: bool = False
    fits_vectors: bool = False
    kind: Literal["lora", "lycoris"] = "lycoris"

    def __post_init__(self) -> None:
        """Name the family."""
        object.__setattr__(self, "family", self.family or self.name)

    @property
    def scalars(self) -> frozenset[str]:
        """Parts that are one number."""
        return self.flags | {ALPHA}

    def misfit(self, shapes: Shapes, target: Shape) -> str | None:
        """Describe what does not fit a parameter of shape `target`; None where everything does."""
        try:
            size = self.size(shapes)
        except (ShapeError, IndexError) as error:
            return f"{self.name}: {error or 'a part has too few dimensions'}"
        n_out, n_in_flat = target[0], math.prod(target[1:])
        is_known = size.kernel is not None and len(size.kernel) == len(target) - 2
        fits = (
            size.n_out in (None, n_out)
            and size.n_in_flat in (None, n_in_flat)
            and (not is_known or size.kernel == target[2:])
            and self._vectors_fit(shapes, target)
        )
        parts = ", ".join(f"{part} {list(s)}" for part, s in sorted(shapes.items()) if s)
        return None if fits else f"{self.name} ({parts}) does not fit a weight {list(target)}"

    def _vectors_fit(self, shapes: Shapes, target: Shape) -> bool:
        lengths = {"out": math.prod(target[:1]), "in": math.prod(target[1:2])}
        return all(
            math.prod(shapes[part]) in [lengths[side] for side in sides]
            for part, sides in {**_SHARED_VECTORS, **self.vectors}.items()
            if part in shapes
        )

    def ignores_alpha(self, parts: Collection[str]) -> bool:
        """Return whether alpha does not count: a formula with ranks, of parts without any."""
        return bool(self.rank_parts) and not any(part in parts for part in self.rank_parts)

    def is_zero(self, zero_parts: Collection[str], parts: Collection[str]) -> bool:
        """Return whether a change by `parts` is zero, of which `zero_parts` are all zero."""
        factors = {part for product in self.zero_parts for part in product}
        # A magnitude changes the weight by itself, whatever it is multiplied with.
        if not factors or any(v in parts and v not in factors for v in self._all_vectors()):
            return False
        if self.rank_parts and ALPHA in zero_parts and not self.ignores_alpha(parts):
            return True
        return all(any(part in zero_parts for part in product) for product in self.zero_parts)

    def _all_vectors(self) -> set[str]:
        return {*_SHARED_VECTORS, *self.vectors}


def require(condition: bool, shapes: Shapes) -> None:
    """Raise `ShapeError`, with all shapes, unless the condition holds."""
    if not condition:
        listed = ", ".join(f"{part} {list(shape)}" for part, shape in sorted(shapes.items()))
        raise ShapeError(f"the parts do not fit each other: {listed}")


def flat(shape: Shape) -> int:
    """Return the number of columns of a part, its kernel flattened into them."""
    return math.prod(shape[1:])
