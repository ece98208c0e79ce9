"""DoRA: W' = m (W + C) / ||W + C||, with C the change of another formula.

Source: DoRA, arXiv 2402.09353, equation 5. The norm is taken, as in peft, over everything but the
output (one magnitude an output), and so in LyCORIS where `dora_scale` is [o, 1(, 1, 1)]; a
`dora_scale` of [1, i(, 1, 1)], which LyCORIS writes with wd_on_output=False, has one magnitude an
input. At strengths other than 1 the whole change is scaled, as in ComfyUI and A1111; peft scales C
inside the norm instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runners.weights.parts import Formula, Parts, misfit

_MAGNITUDES = ("magnitude", "dora_scale")


def is_decomposed(parts: Parts) -> bool:
    """Return whether a magnitude is among the parts."""
    return any(name in parts for name in _MAGNITUDES)


def decomposed(formula: Formula, parts: Parts, weight: Tensor) -> Tensor:
    """Return the change of the weight, whose direction `formula` moves, at the given magnitude."""
    inner = {name: part for name, part in parts.items() if name not in _MAGNITUDES}
    # Equation 5: the direction is that of W + C, ...
    moved = weight + formula(inner, weight)
    magnitude, kept_dim = _magnitude(parts, weight)
    # ... its norm runs over all dimensions but that of the magnitude, ...
    others = [dim for dim in range(weight.ndim) if dim != kept_dim]
    norm = torch.linalg.vector_norm(moved, dim=others, keepdim=True)
    # ... and W' = m (W + C) / ||W + C||; a row of zeros stays zero.
    return magnitude * moved / norm.clamp_min(torch.finfo(weight.dtype).tiny) - weight


def _magnitude(parts: Parts, weight: Tensor) -> tuple[Tensor, int]:
    """Return the magnitude, shaped for broadcasting, and its dimension (0 out, 1 in)."""
    n_out, n_in, ones = weight.shape[0], weight.shape[1], [1] * (weight.ndim - 2)
    if "magnitude" in parts:  # peft: [o], or [1, o, 1, 1] for a convolution
        magnitude = parts["magnitude"]
        if magnitude.numel() == n_out:
            return magnitude.reshape(n_out, 1, *ones), 0
    else:
        magnitude = parts["dora_scale"]
        if magnitude.shape[0] == n_out and magnitude.numel() == n_out:
            return magnitude.reshape(n_out, 1, *ones), 0
        if magnitude.shape[:2] == (1, n_in) and magnitude.numel() == n_in:
            return magnitude.reshape(1, n_in, *ones), 1
    raise misfit(parts, weight)
