"""(IA)^3: a factor per output, or per input where `on_input` is 1 (arXiv 2205.05638)."""

from __future__ import annotations

from collections.abc import Collection

from plugins_manifest.formats.formulas.spec import FormulaSpec, KeyPart, Shapes, Size

_SCALE, _ON_INPUT = ".weight", ".on_input"


def _split(key: str, keys: Collection[str]) -> KeyPart | None:
    """Read a plain `.weight` as the scale, but only beside an `.on_input`."""
    module = key.removesuffix(_SCALE)
    if key.endswith(_SCALE) and f"{module}{_ON_INPUT}" in keys:
        return KeyPart(module, "ia3", "scale", "kohya")
    return None


def _size(_: Shapes) -> Size:
    return Size(None, None)


SPECS = (
    FormulaSpec(
        name="ia3",
        math="runners.weights.ia3:ia3_change",
        keys={_ON_INPUT: "on_input"},
        split=_split,
        needed=("scale", "scale on_input"),
        optional="",
        size=_size,
        vectors={"scale": ("out", "in")},
        flags=frozenset({"on_input"}),
        zero_parts=(("scale",),),
    ),
)
