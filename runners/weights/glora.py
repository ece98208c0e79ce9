"""GLoRA: W' = W + (alpha / r) (W A + B), with A = a1 a2 and B = b1 b2.

Source: arXiv 2306.07967, section 3.2, in the form of LyCORIS (no bias or prompt terms). Files from
before LyCORIS 2.0 hold the transposed order, W A = W a2 a1 and B = b2 b1; the shapes decide.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runners.weights.parts import Parts, alpha_over_rank, misfit, shaped_as


def glora_change(parts: Parts, weight: Tensor) -> Tensor:
    """Take a1 [i, r], a2 [r, i], b1 [o, r], b2 [r, i(, k, k)], or the old order; kernels 1 x 1."""
    a1, a2, b1, b2 = (parts[name].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    # Old files name each pair the other way round.
    if not _fit(a1, a2, b1, b2, weight):
        a1, a2, b1, b2 = a2, a1, b2, b1
        if not _fit(a1, a2, b1, b2, weight):
            raise misfit(parts, weight)
    scale = alpha_over_rank(parts, a2.shape[0])
    # W A, with A acting on the inputs of every kernel element (section 3.2).
    turned = torch.einsum("oi...,ir,rj->oj...", weight, a1, a2)
    # W A + B
    return scale * (turned + shaped_as(b1 @ b2, weight, parts))


def _fit(a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor, weight: Tensor) -> bool:
    n_out, n_in, n_kernel = weight.shape[0], weight.shape[1], weight[0].numel()
    is_a_right = a1.shape == (n_in, a2.shape[0]) and a2.shape[1] == n_in
    is_b_right = b1.shape == (n_out, b2.shape[0]) and b2.shape[1] == n_kernel
    return is_a_right and is_b_right and a2.shape[0] == b2.shape[0]
