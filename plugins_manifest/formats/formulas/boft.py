"""BOFT: OFT in m butterfly steps (arXiv 2311.06243), with OFT's keys and one more dimension."""

from __future__ import annotations

from plugins_manifest.formats.formulas.spec import FormulaSpec, Shapes, Size, require


def _size(shapes: Shapes) -> Size:
    """Return n b outputs, of blocks [m, n, b, b] with b even."""
    blocks = shapes["blocks"]
    require(len(blocks) == 4 and blocks[2] == blocks[3] and blocks[3] % 2 == 0, shapes)
    # Each of the m butterfly steps pairs rows 2^step * b / 2 apart (BOFT, section 4).
    n_out, widest = blocks[1] * blocks[2], 2 ** min(blocks[0], 40) * blocks[3] // 2
    require(blocks[0] > 0 and widest > 0 and n_out % widest == 0, shapes)
    return Size(n_out, None)


SPECS = (
    FormulaSpec(
        name="boft",
        math="runners.weights.boft:boft_change",
        family="oft",
        applies=lambda shapes: len(shapes.get("blocks", ())) == 4,
        needed=("blocks",),
        optional="alpha rescale",
        size=_size,
        vectors={"rescale": ("out",)},
        zero_parts=(("blocks",),),
    ),
)
