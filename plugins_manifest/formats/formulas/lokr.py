"""LoKr: a Kronecker product whose factors are matrices or low-rank products (arXiv 2309.14859)."""

from __future__ import annotations

import math

from plugins_manifest.formats.formulas.spec import (
    DECOMPOSABLE,
    FormulaSpec,
    Shape,
    Shapes,
    Size,
    flat,
    require,
)


def _size(shapes: Shapes) -> Size:
    """Return the product of the factors' sides: w1 [o1, i1], w2 [o2, i2(, k, k)]."""
    first = shapes["w1"] if "w1" in shapes else _product(shapes, "w1")
    require(len(first) == 2, shapes)
    if "w2" in shapes:
        second = shapes["w2"]
    elif "t2" in shapes:
        a, b, core = shapes["w2_a"], shapes["w2_b"], shapes["t2"]
        require(len(a) == len(b) == 2 and len(core) > 2 and (a[0], b[0]) == core[:2], shapes)
        second = (a[1], b[1], *core[2:])
    else:
        second = _product(shapes, "w2")
    require(min(len(second) - 1, *first, *second) > 0, shapes)
    n_out = math.prod(first[:1]) * math.prod(second[:1])
    return Size(n_out, flat(first) * flat(second), second[2:] or None)


def _product(shapes: Shapes, name: str) -> Shape:
    a, b = shapes[f"{name}_a"], shapes[f"{name}_b"]
    require(len(a) == 2 and len(b) >= 2 and a[1] == b[0], shapes)
    return (a[0], *b[1:])


_PARTS = ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
_FIRST, _SECOND = ("w1", "w1_a w1_b"), ("w2", "w2_a w2_b", "w2_a w2_b t2")
SPECS = (
    FormulaSpec(
        name="lokr",
        math="runners.weights.lokr:lokr_change",
        keys={f".lokr_{part}": part for part in _PARTS},
        needed=tuple(f"{first} {second}" for first in _FIRST for second in _SECOND),
        optional=DECOMPOSABLE,
        size=_size,
        zero_parts=(_PARTS,),
        rank_parts=("w1_b", "w2_b"),
        reads_settings=True,
    ),
)
