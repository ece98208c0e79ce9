"""Rotations out of skew-symmetric blocks: R = (I + Q)(I - Q)^-1 with Q = B - B^T.

Source: OFT, arXiv 2306.07280, section 4.2 (Cayley's map) and equation 6 (the constraint: the norm
of all Q together stays below alpha times the number of outputs).
"""

from __future__ import annotations

import torch
from torch import Tensor

from runners.weights.parts import Parts


def rotations(parts: Parts, n_outputs: int) -> Tensor:
    """The blocks of `parts` as rotations, same shape [..., b, b]; no `alpha`: no constraint."""
    blocks = parts["blocks"]
    skew = blocks - blocks.mT
    limit = float(parts["alpha"]) * n_outputs if "alpha" in parts else 0.0
    norm = torch.linalg.vector_norm(skew)
    if 0 < limit < float(norm):
        skew = skew * (limit / norm)
    eye = torch.eye(blocks.shape[-1], dtype=blocks.dtype, device=blocks.device)
    return torch.linalg.solve(eye - skew, eye + skew)  # both factors commute


def rescaled(rotated: Tensor, weight: Tensor, parts: Parts) -> Tensor:
    """The change that leads to the rotated weight, each output times its `rescale` if given."""
    if "rescale" in parts:
        rotated = rotated * parts["rescale"].reshape(-1, *[1] * (rotated.ndim - 1))
    return rotated - weight
