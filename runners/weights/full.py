"""Full difference: W' = W + diff, for weights, biases and the parameters of norms.

Source: LyCORIS, arXiv 2309.14859, section 3.1 (`.diff`, `.diff_b`, `.w_norm`, `.b_norm`).
"""

from __future__ import annotations

from torch import Tensor

from runners.weights.parts import Parts, shaped_as


def full_change(parts: Parts, weight: Tensor) -> Tensor:
    """Return `diff`, whose shape is the weight's up to dimensions of size 1."""
    return shaped_as(parts["diff"], weight, parts)


def saved_change(parts: Parts, weight: Tensor) -> Tensor:
    """Return the change to `value`, which replaces the parameter (PEFT's modules_to_save)."""
    return shaped_as(parts["value"], weight, parts) - weight
