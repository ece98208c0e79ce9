"""LoRA and its Tucker form: W' = W + (alpha / r) up down.

Sources: LoRA, arXiv 2106.09685, equation 3; LoCon (LyCORIS, arXiv 2309.14859, section 3.2): a
convolution is a k x k down and a 1 x 1 up; Tucker (FedPara, arXiv 2108.06098, proposition 3): a
k x k core `mid` between two 1 x 1 convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runners.weights.parts import Parts, alpha_over_rank, misfit, shaped_as


def lora_change(parts: Parts, weight: Tensor) -> Tensor:
    """Take down [r, i(, k, k)], up [o, r(, 1, 1)], in a convolution's order of dimensions."""
    down_ri, up_or = parts["down"].flatten(1), parts["up"].flatten(1)
    rank = down_ri.shape[0]
    if up_or.shape[1] != rank:
        raise misfit(parts, weight)
    # Equation 3; the kernel is flattened into the columns of down.
    return shaped_as(alpha_over_rank(parts, rank) * (up_or @ down_ri), weight, parts)


def tucker_change(parts: Parts, weight: Tensor) -> Tensor:
    """Take down [r, i, 1, 1], mid [r, r, k, k], up [o, r, 1, 1]; alpha is per rank of down."""
    down_ri, up_or, mid_rrkk = parts["down"].flatten(1), parts["up"].flatten(1), parts["mid"]
    if up_or.shape[1] != mid_rrkk.shape[0] or down_ri.shape[0] != mid_rrkk.shape[1]:
        raise misfit(parts, weight)
    # FedPara, proposition 3: the core between the factors of outputs and inputs.
    product = torch.einsum("op,pq...,qi->oi...", up_or, mid_rrkk, down_ri)
    return shaped_as(alpha_over_rank(parts, down_ri.shape[0]) * product, weight, parts)
