"""BOFT: W' = R_m ... R_1 W, with butterfly factors over the outputs.

Source: BOFT, arXiv 2311.06243, section 4 (factor j mixes outputs at a stride of 2^j b / 2), in the
order of LyCORIS' files (peft's factors act on the inputs).
"""

from __future__ import annotations

import torch
from torch import Tensor

from runners.weights.oft import rescaled, rotations
from runners.weights.parts import Parts, misfit


def boft_change(parts: Parts, weight: Tensor) -> Tensor:
    """Take blocks [m, n, b, b] with n b = o and b even; alpha and rescale as for OFT."""
    m, n, b = parts["blocks"].shape[:3]
    n_outputs = weight.shape[0]
    if n * b != n_outputs or b % 2 or n_outputs % (2**m * (b // 2)):
        raise misfit(parts, weight)
    # One constraint for all m factors together, as in LyCORIS.
    rotation_mnbb = rotations(parts, n_outputs)
    rotated = weight
    for level, rotation_nbb in enumerate(rotation_mnbb):
        # Permute so that the outputs that this factor mixes are neighbors in one block, ...
        order = _butterfly(n_outputs, stride=2**level * (b // 2)).to(weight.device)
        # ... rotate every block, ...
        mixed = torch.einsum("nbc,nc...->nb...", rotation_nbb, rotated[order].unflatten(0, (n, b)))
        # ... and put the outputs back in their places.
        rotated = torch.empty_like(rotated)
        rotated[order] = mixed.reshape(weight.shape)
    return rescaled(rotated, weight, parts)


def _butterfly(n_outputs: int, *, stride: int) -> Tensor:
    """Return indices that put each output next to the one a stride further on."""
    return torch.arange(n_outputs).reshape(-1, 2, stride).transpose(1, 2).reshape(-1)
