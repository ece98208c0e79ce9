"""Full differences of weights and biases, and the same of norms (LyCORIS, arXiv 2309.14859)."""

from __future__ import annotations

from collections.abc import Mapping

from plugins_manifest.formats.formulas.spec import FormulaSpec, Shapes, Size, flat, require


def _size(shapes: Shapes) -> Size:
    diff = shapes["diff"]
    require(len(diff) >= 1, shapes)
    return Size(diff[0], flat(diff), diff[2:] if len(diff) > 2 else None)


def _difference(name: str, keys: Mapping[str, str], bias_keys: Mapping[str, str]) -> FormulaSpec:
    return FormulaSpec(
        name=name,
        math="runners.weights.full:full_change",
        keys=keys,
        bias_keys=bias_keys,
        needed=("diff",),
        size=_size,
        zero_parts=(("diff",),),
        fits_vectors=True,
    )


SPECS = (
    _difference("full", {".diff": "diff"}, {".diff_b": "diff"}),
    _difference("norm", {".w_norm": "diff"}, {".b_norm": "diff"}),
)
