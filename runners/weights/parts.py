"""The arguments of a formula: the tensors of its parts, cast to one dtype; and their scale.

Every formula is a function of (parts, weight) that returns the change of the weight at strength 1,
in the weight's shape and dtype. Shape suffixes of all formulas: o out, i in, r rank, k kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

Parts = Mapping[str, Tensor]
Formula = Callable[[Parts, Tensor], Tensor]


class PluginWeightsError(ValueError):
    """Plugin weights that are incomplete, of another format, or made for another model."""


def alpha_over_rank(parts: Parts, rank: int) -> float:
    """Return the scale alpha / r of all low-rank formats; a missing alpha is the rank.

    Source: LoRA, arXiv 2106.09685, section 4.1.
    """
    return float(parts["alpha"]) / rank if "alpha" in parts else 1.0


def shaped_as(change: Tensor, weight: Tensor, parts: Parts) -> Tensor:
    """Return the change in the weight's shape: linear parts fit 1x1 convolutions and vice versa.

    Raises `PluginWeightsError`, with all shapes, unless rows and elements agree.
    """
    if change.shape[0] != weight.shape[0] or change.numel() != weight.numel():
        raise misfit(parts, weight)
    return change.reshape(weight.shape)


def misfit(parts: Parts, weight: Tensor) -> PluginWeightsError:
    """Return the error of parts that do not fit each other or the weight."""
    shapes = ", ".join(f"{name} {tuple(part.shape)}" for name, part in parts.items())
    return PluginWeightsError(f"{shapes} do not fit a weight of shape {tuple(weight.shape)}")
