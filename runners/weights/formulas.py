"""The change of a weight by a formula's name: each spec names the function of its math."""

from __future__ import annotations

from functools import cache
from pkgutil import resolve_name

from torch import Tensor

from plugins_manifest.formats.formulas import formulas
from runners.weights.dora import decomposed, is_decomposed
from runners.weights.parts import Formula, Parts, misfit


def change_of(formula: str, parts: Parts, weight: Tensor) -> Tensor:
    """Return the change of a parameter at strength 1, in its shape and dtype; it stays as it is.

    Most formulas change weights [o, i(, k, k)] alone, never biases.

    Raises `PluginWeightsError` for parts that do not fit.
    """
    if weight.ndim < 2 and not formulas()[formula].fits_vectors:
        raise misfit(parts, weight)
    change = _math_of(formula)
    # A magnitude beside the parts decomposes the weight, whatever formula moves its direction.
    return decomposed(change, parts, weight) if is_decomposed(parts) else change(parts, weight)


@cache
def _math_of(formula: str) -> Formula:
    return resolve_name(formulas()[formula].math)
