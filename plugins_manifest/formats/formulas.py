"""Which parts each formula needs, and whether their shapes fit each other and the weight.

Legend: o out, i in, r rank, k the product of the kernel's sides. A weight is o x (i k).
Sources: LoRA arXiv 2106.09685; LoHa arXiv 2108.06098 (FedPara); LoKr and the rest: LyCORIS,
arXiv 2309.14859; (IA)^3 arXiv 2205.05638; OFT arXiv 2306.07280; BOFT arXiv 2311.06243;
GLoRA arXiv 2306.07967; DoRA arXiv 2402.09353.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from plugins_manifest.formats.parsed import FormatName

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class ShapeError(ValueError):
    """Parts whose shapes contradict each other."""


@dataclass(frozen=True)
class Size:
    """What the parts say of the weight they change; None where they leave it open."""

    n_out: int | None
    n_in_flat: int | None
    kernel: Shape | None = None


@dataclass(frozen=True)
class Formula:
    """One formula: the sets of parts it can do with, what may be beside, and the size it gives."""

    name: FormatName
    needed: tuple[frozenset[str], ...]
    optional: frozenset[str]
    size: Callable[[Shapes], Size]


def check_fit(formula: Formula, shapes: Shapes, target: Shape) -> str | None:
    """Say what does not fit a parameter of shape `target`, None where all does."""
    try:
        size = formula.size(shapes)
    except (ShapeError, IndexError) as error:
        return f"{formula.name}: {error or 'a part has too few dimensions'}"
    n_out, n_in_flat = target[0], math.prod(target[1:])
    is_known = size.kernel is not None and len(size.kernel) == len(target) - 2
    fits = (
        size.n_out in (None, n_out)
        and size.n_in_flat in (None, n_in_flat)
        and (not is_known or size.kernel == target[2:])
        and _is_scale(formula, shapes, target)
    )
    parts = ", ".join(f"{part} {list(shape)}" for part, shape in sorted(shapes.items()) if shape)
    return None if fits else f"{formula.name} ({parts}) does not fit a weight {list(target)}"


def _is_scale(formula: Formula, shapes: Shapes, target: Shape) -> bool:
    """Vectors along one side of the weight: per output or, where the format has it, per input."""
    n_out, n_in = math.prod(target[:1]), math.prod(target[1:2])
    sides = {"dora_scale": (n_out, n_in), "magnitude": (n_out,), "rescale": (n_out,)}
    if formula.name == "ia3":
        sides["scale"] = (n_out, n_in)
    return all(math.prod(shapes[part]) in sides[part] for part in sides.keys() & shapes.keys())


def _need(condition: bool, shapes: Shapes) -> None:
    if not condition:
        listed = ", ".join(f"{part} {list(shape)}" for part, shape in sorted(shapes.items()))
        raise ShapeError(f"the parts do not fit each other: {listed}")


def _flat(shape: Shape) -> int:
    return math.prod(shape[1:])


def _lora(shapes: Shapes) -> Size:
    down, up = shapes["down"], shapes["up"]
    _need(min(len(down), len(up)) >= 2 and down[0] == _flat(up) > 0, shapes)
    return Size(up[0], _flat(down), down[2:] if len(down) > 2 else None)


def _tucker(shapes: Shapes) -> Size:
    down, up, mid = shapes["down"], shapes["up"], shapes["mid"]
    _need(len(mid) >= 2 and (_flat(up), down[0]) == mid[:2], shapes)
    _need(_flat(down) == down[1] and min(mid) > 0, shapes)
    return Size(up[0], down[1] * math.prod(mid[2:]), mid[2:])


def _loha(shapes: Shapes) -> Size:
    w1, w2 = ((shapes[f"w{n}_a"], shapes[f"w{n}_b"]) for n in (1, 2))
    _need(all(len(s) == 2 and min(s) > 0 for s in (*w1, *w2)), shapes)
    if "t1" not in shapes:
        _need(w1[0][1] == w1[1][0] and w2[0][1] == w2[1][0], shapes)
        _need((w1[0][0], w1[1][1]) == (w2[0][0], w2[1][1]), shapes)
        return Size(w1[0][0], w1[1][1])
    t1, t2 = shapes["t1"], shapes["t2"]
    _need(len(t1) > 2 and t1[2:] == t2[2:], shapes)
    _need((w1[0][0], w1[1][0]) == t1[:2] and (w2[0][0], w2[1][0]) == t2[:2], shapes)
    _need((w1[0][1], w1[1][1]) == (w2[0][1], w2[1][1]), shapes)
    return Size(w1[0][1], w1[1][1] * math.prod(t1[2:]), t1[2:])


def _lokr(shapes: Shapes) -> Size:
    first = shapes["w1"] if "w1" in shapes else _product(shapes, "w1")
    _need(len(first) == 2, shapes)
    if "w2" in shapes:
        second = shapes["w2"]
    elif "t2" in shapes:
        a, b, core = shapes["w2_a"], shapes["w2_b"], shapes["t2"]
        _need(len(a) == len(b) == 2 and len(core) > 2 and (a[0], b[0]) == core[:2], shapes)
        second = (a[1], b[1], *core[2:])
    else:
        second = _product(shapes, "w2")
    _need(min(len(second) - 1, *first, *second) > 0, shapes)
    n_out = math.prod(first[:1]) * math.prod(second[:1])
    return Size(n_out, _flat(first) * _flat(second), second[2:] or None)


def _product(shapes: Shapes, name: str) -> Shape:
    a, b = shapes[f"{name}_a"], shapes[f"{name}_b"]
    _need(len(a) == 2 and len(b) >= 2 and a[1] == b[0], shapes)
    return (a[0], *b[1:])


def _glora(shapes: Shapes) -> Size:
    a1, a2, b1, b2 = (shapes[part] for part in ("a1", "a2", "b1", "b2"))
    _need(min(len(s) for s in (a1, a2, b1, b2)) >= 2, shapes)
    _need(_flat(a1) == a2[0] > 0 and _flat(b1) == b2[0] > 0, shapes)
    # A goes from inputs to inputs, B from inputs to outputs.
    _need(a1[0] == _flat(a2) == b2[1], shapes)
    return Size(b1[0], _flat(b2), b2[2:] if len(b2) > 2 else None)


def _diff(shapes: Shapes) -> Size:
    diff = shapes["diff"]
    _need(len(diff) >= 1, shapes)
    return Size(diff[0], _flat(diff), diff[2:] if len(diff) > 2 else None)


def _oft(shapes: Shapes) -> Size:
    blocks = shapes["blocks"]
    _need(len(blocks) == 3 and blocks[1] == blocks[2], shapes)
    return Size(blocks[0] * blocks[1], None)


def _boft(shapes: Shapes) -> Size:
    blocks = shapes["blocks"]
    _need(len(blocks) == 4 and blocks[2] == blocks[3] and blocks[3] % 2 == 0, shapes)
    # Each of the m butterfly steps pairs rows 2^step * b / 2 apart (BOFT, section 4).
    n_out, widest = blocks[1] * blocks[2], 2 ** min(blocks[0], 40) * blocks[3] // 2
    _need(blocks[0] > 0 and widest > 0 and n_out % widest == 0, shapes)
    return Size(n_out, None)


def _open(_: Shapes) -> Size:
    return Size(None, None)


def _formula(
    name: FormatName, size: Callable[[Shapes], Size], *needed: str, optional: str = "alpha"
) -> Formula:
    sets = tuple(frozenset(parts.split()) for parts in needed)
    return Formula(name, sets, frozenset(optional.split()), size)


_DECOMPOSED = "alpha dora_scale"

FORMULAS: Mapping[FormatName, Formula] = MappingProxyType(
    {
        f.name: f
        for f in (
            _formula("lora", _lora, "down up"),
            _formula("dora", _lora, "down up dora_scale", "down up magnitude"),
            _formula("lora-tucker", _tucker, "down up mid", optional=_DECOMPOSED),
            _formula(
                "loha",
                _loha,
                "w1_a w1_b w2_a w2_b",
                "w1_a w1_b w2_a w2_b t1 t2",
                optional=_DECOMPOSED,
            ),
            _formula(
                "lokr",
                _lokr,
                *(
                    f"{first} {second}"
                    for first in ("w1", "w1_a w1_b")
                    for second in ("w2", "w2_a w2_b", "w2_a w2_b t2")
                ),
                optional=_DECOMPOSED,
            ),
            _formula("ia3", _open, "scale", "scale on_input", optional=""),
            _formula("full", _diff, "diff"),
            _formula("norm", _diff, "diff"),
            _formula("oft", _oft, "blocks", optional="alpha rescale"),
            _formula("boft", _boft, "blocks", optional="alpha rescale"),
            _formula("glora", _glora, "a1 a2 b1 b2"),
        )
    }
)
