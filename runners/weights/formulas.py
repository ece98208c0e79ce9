"""The formulas by name: parts and a weight in, the weight's change at strength 1 out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from plugins_manifest.formats.parsed import FormatName
from runners.weights.boft import boft_change
from runners.weights.dora import decomposed, is_decomposed
from runners.weights.full import full_change
from runners.weights.glora import glora_change
from runners.weights.ia3 import ia3_change
from runners.weights.loha import loha_change
from runners.weights.lokr import lokr_change
from runners.weights.lora import lora_change, tucker_change
from runners.weights.oft import oft_change
from runners.weights.parts import Formula, Parts, misfit

FORMULAS: Mapping[FormatName, Formula] = MappingProxyType(
    {
        "lora": lora_change,
        "lora-tucker": tucker_change,
        "dora": lora_change,  # its magnitude makes it what it is: see `change_of`
        "loha": loha_change,
        "lokr": lokr_change,
        "ia3": ia3_change,
        "full": full_change,
        "norm": full_change,
        "oft": oft_change,
        "boft": boft_change,
        "glora": glora_change,
    }
)


def change_of(formula: FormatName, parts: Parts, weight: Tensor) -> Tensor:
    """The change of a parameter at strength 1, in its shape and dtype; it is left as it is.

    All formulas but full and norm change weights [o, i(, k, k)] alone, never biases.

    Raises `PluginWeightsError` for parts that do not fit.
    """
    if weight.ndim < 2 and FORMULAS[formula] is not full_change:
        raise misfit(parts, weight)
    if is_decomposed(parts):
        return decomposed(FORMULAS[formula], parts, weight)
    return FORMULAS[formula](parts, weight)
