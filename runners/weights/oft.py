"""OFT: W' = R^T W, with R block-diagonal over the outputs.

Source: arXiv 2306.07280, equation 4, in the direction of LyCORIS and kohya, whose files these are
(peft rotates the inputs instead).
"""

from __future__ import annotations

import torch
from torch import Tensor

from runners.weights.orthogonal import rescaled, rotations
from runners.weights.parts import Parts, misfit


def oft_change(parts: Parts, weight: Tensor) -> Tensor:
    """Blocks [n, b, b] with n b = o; alpha is the constraint; rescale holds o numbers."""
    n, b = parts["blocks"].shape[:2]
    if n * b != weight.shape[0] or parts["blocks"].shape[2] != b:
        raise misfit(parts, weight)
    rotation_nbc = rotations(parts, weight.shape[0])
    rotated = torch.einsum("nbc,nb...->nc...", rotation_nbc, weight.unflatten(0, (n, b)))
    return rescaled(rotated.reshape(weight.shape), weight, parts)
