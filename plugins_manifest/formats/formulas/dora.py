"""DoRA (arXiv 2402.09353): a LoRA, and the magnitude of the changed weight.

The magnitude is LyCORIS' `dora_scale` (per output or per input) or PEFT's `magnitude` (per
output). `dora_scale` may also decompose a Tucker, LoHa or LoKr change; see `DECOMPOSABLE`.
"""

from __future__ import annotations

from plugins_manifest.formats.formulas.lora import lora_size
from plugins_manifest.formats.formulas.spec import FormulaSpec, Shapes


def _applies(shapes: Shapes) -> bool:
    return "mid" not in shapes and bool({"dora_scale", "magnitude"} & shapes.keys())


SPECS = (
    FormulaSpec(
        name="dora",
        # the magnitude beside the parts makes `runners.weights` decompose the change
        math="runners.weights.lora:lora_change",
        family="lora",
        applies=_applies,
        needed=("down up dora_scale", "down up magnitude"),
        size=lora_size,
        rank_parts=("down",),
        reads_settings=True,
        kind="lora",
    ),
)
