"""OFT: W' = R^T W, with R block-diagonal over the outputs.

Source: OFT, arXiv 2306.07280: equation 4 (blocks), section 4.2 (Cayley's map), equation 6 (the
constraint); in the direction of LyCORIS and kohya, whose files these are (peft rotates the inputs
instead). BOFT shares the rotations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runners.weights.parts import Parts, misfit


def oft_change(parts: Parts, weight: Tensor) -> Tensor:
    """Take blocks [n, b, b] with n b = o; alpha is the constraint; rescale holds o numbers."""
    n, b = parts["blocks"].shape[:2]
    if n * b != weight.shape[0] or parts["blocks"].shape[2] != b:
        raise misfit(parts, weight)
    rotation_nbc = rotations(parts, weight.shape[0])
    # R^T W: the sum runs over the rows b of each block, so the block is transposed.
    rotated = torch.einsum("nbc,nb...->nc...", rotation_nbc, weight.unflatten(0, (n, b)))
    return rescaled(rotated.reshape(weight.shape), weight, parts)


def rotations(parts: Parts, n_outputs: int) -> Tensor:
    """Return the blocks of `parts` as rotations, same shape [..., b, b]; no `alpha`: no limit."""
    blocks = parts["blocks"]
    # Only the skew-symmetric part Q = B - B^T counts: its Cayley map is orthogonal.
    skew = blocks - blocks.mT
    # The constraint (equation 6): |Q|, over all blocks together, is at most alpha times o.
    limit = float(parts["alpha"]) * n_outputs if "alpha" in parts else 0.0
    norm = torch.linalg.vector_norm(skew)
    if 0 < limit < float(norm):
        skew = skew * (limit / norm)
    # Cayley: R = (I + Q)(I - Q)^-1; both factors commute, so one solve is enough.
    eye = torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)
    return torch.linalg.solve(eye - skew, eye + skew)


def rescaled(rotated: Tensor, weight: Tensor, parts: Parts) -> Tensor:
    """Return the change to the rotated weight, each output times its `rescale` if given."""
    if "rescale" in parts:
        rotated = rotated * parts["rescale"].reshape(-1, *[1] * (rotated.ndim - 1))
    return rotated - weight
