"""OFT: rotations of blocks of outputs (arXiv 2306.07280); `alpha` is the constraint."""

from __future__ import annotations

from plugins_manifest.formats.formulas.spec import FormulaSpec, Shapes, Size, require


def _size(shapes: Shapes) -> Size:
    """Return n b outputs, of blocks [n, b, b]."""
    blocks = shapes["blocks"]
    require(len(blocks) == 3 and blocks[1] == blocks[2], shapes)
    return Size(blocks[0] * blocks[1], None)


SPECS = (
    FormulaSpec(
        name="oft",
        math="runners.weights.oft:oft_change",
        keys={".oft_blocks": "blocks", ".rescale": "rescale"},
        needed=("blocks",),
        optional="alpha rescale",
        size=_size,
        vectors={"rescale": ("out",)},
        zero_parts=(("blocks",),),
    ),
)
