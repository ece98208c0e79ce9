"""LoHa: the elementwise product of two low-rank matrices (FedPara, arXiv 2108.06098)."""

from __future__ import annotations

import math

from plugins_manifest.formats.formulas.spec import DECOMPOSABLE, FormulaSpec, Shapes, Size, require


def _size(shapes: Shapes) -> Size:
    """Return the size for w_a [o, r], w_b [r, i k]; with cores t [r, r, k, k], w_a is [r, o]."""
    w1, w2 = ((shapes[f"w{n}_a"], shapes[f"w{n}_b"]) for n in (1, 2))
    require(all(len(s) == 2 and min(s) > 0 for s in (*w1, *w2)), shapes)
    if "t1" not in shapes:
        require(w1[0][1] == w1[1][0] and w2[0][1] == w2[1][0], shapes)
        require((w1[0][0], w1[1][1]) == (w2[0][0], w2[1][1]), shapes)
        return Size(w1[0][0], w1[1][1])
    t1, t2 = shapes["t1"], shapes["t2"]
    require(len(t1) > 2 and t1[2:] == t2[2:], shapes)
    require((w1[0][0], w1[1][0]) == t1[:2] and (w2[0][0], w2[1][0]) == t2[:2], shapes)
    require((w1[0][1], w1[1][1]) == (w2[0][1], w2[1][1]), shapes)
    return Size(w1[0][1], w1[1][1] * math.prod(t1[2:]), t1[2:])


_PARTS = ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")
SPECS = (
    FormulaSpec(
        name="loha",
        math="runners.weights.loha:loha_change",
        keys={f".hada_{part}": part for part in _PARTS},
        needed=("w1_a w1_b w2_a w2_b", "w1_a w1_b w2_a w2_b t1 t2"),
        optional=DECOMPOSABLE,
        size=_size,
        zero_parts=(_PARTS,),
        rank_parts=("w1_b",),
        reads_settings=True,
    ),
)
