"""(IA)3: W' = W (1 + s), per output, or per input with `on_input`.

Source: arXiv 2205.05638, section 3.3, whose l is 1 + s here: LyCORIS' files hold s.
"""

from __future__ import annotations

from torch import Tensor

from runners.weights.parts import Parts, misfit


def ia3_change(parts: Parts, weight: Tensor) -> Tensor:
    """Take scale [o] or [i], with any dimensions of size 1; `on_input` is one number, 0 or 1."""
    is_on_input = "on_input" in parts and bool(parts["on_input"])
    n_sides = weight.shape[1] if is_on_input else weight.shape[0]
    scale = parts["scale"]
    if scale.numel() != n_sides:
        raise misfit(parts, weight)
    # W' - W = W s, broadcast over rows or columns and over the kernel.
    ones = [1] * (weight.ndim - 2)
    return weight * scale.reshape(*((1, n_sides) if is_on_input else (n_sides, 1)), *ones)
