"""Tensor math of plugin formats, one file a formula, and the merge into a model's weights.

The key of a formula's file is in `plugins_manifest.formats.formulas`; its math is a function of
(parts, weight), see `runners.weights.parts`.
"""

from runners.weights.engine import PluginWeights, merged_into, parameters_of
from runners.weights.formulas import change_of
from runners.weights.parts import (
    Parts,
    PluginWeightsError,
    alpha_over_rank,
    misfit,
    shaped_as,
)
from runners.weights.verify import verify_weights

__all__ = [
    "Parts",
    "PluginWeights",
    "PluginWeightsError",
    "alpha_over_rank",
    "change_of",
    "merged_into",
    "misfit",
    "parameters_of",
    "shaped_as",
    "verify_weights",
]
