"""GLoRA: W A + B with low-rank A and B (arXiv 2306.07967), in LyCORIS' form."""

from __future__ import annotations

from collections.abc import Mapping

from plugins_manifest.formats.formulas.spec import FormulaSpec, Shapes, Size, flat, require

_OLD = {"a1": "a2", "a2": "a1", "b1": "b2", "b2": "b1"}


def _renames(shapes: Shapes) -> Mapping[str, str]:
    """Map the parts of early LyCORIS, which named each pair the other way round.

    The sides decide: `a1` is tall today ([i, r]) and was flat, `b2` is flat ([r, i k]) and was
    tall.
    """
    a1, b2 = shapes.get("a1", ()), shapes.get("b2", ())
    was_flat = len(a1) >= 2 and a1[0] < flat(a1)
    was_tall = len(b2) >= 2 and b2[0] > flat(b2)
    return _OLD if was_flat and was_tall else {}


def _size(shapes: Shapes) -> Size:
    """Return the size for a1 [i, r], a2 [r, i], b1 [o, r], b2 [r, i(, k, k)]."""
    a1, a2, b1, b2 = (shapes[part] for part in ("a1", "a2", "b1", "b2"))
    require(min(len(s) for s in (a1, a2, b1, b2)) >= 2, shapes)
    require(flat(a1) == a2[0] > 0 and flat(b1) == b2[0] > 0, shapes)
    # A maps inputs to inputs, B inputs to outputs.
    require(a1[0] == flat(a2) == b2[1], shapes)
    return Size(b1[0], flat(b2), b2[2:] if len(b2) > 2 else None)


SPECS = (
    FormulaSpec(
        name="glora",
        math="runners.weights.glora:glora_change",
        keys={f".{part}.weight": part for part in _OLD},
        needed=("a1 a2 b1 b2",),
        size=_size,
        renames=_renames,
        zero_parts=(("a1", "a2"), ("b1", "b2")),
        rank_parts=("b2",),
    ),
)
