"""LoHa: W' = W + (alpha / r) (w1_a w1_b) * (w2_a w2_b), elementwise.

Sources: FedPara, arXiv 2108.06098, propositions 1 and 3 (with cores t1, t2 for convolutions);
LyCORIS, arXiv 2309.14859, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runners.weights.parts import Parts, alpha_over_rank, misfit, shaped_as


def loha_change(parts: Parts, weight: Tensor) -> Tensor:
    """Take w_a [o, r], w_b [r, i(, k, k)]; with cores w_a [r, o], w_b [r, i], t [r, r, k, k].

    alpha counts per rank of w1_b.
    """
    first, second = _product(parts, weight, "1"), _product(parts, weight, "2")
    if first.shape != second.shape:
        raise misfit(parts, weight)
    # FedPara, proposition 1: the rank of the elementwise product is up to r^2.
    scale = alpha_over_rank(parts, parts["w1_b"].shape[0])
    return shaped_as(scale * first * second, weight, parts)


def _product(parts: Parts, weight: Tensor, index: str) -> Tensor:
    out, into_ri = parts[f"w{index}_a"].flatten(1), parts[f"w{index}_b"].flatten(1)
    core = parts.get(f"t{index}")
    # A plain product, the kernel flattened into the columns of w_b ...
    if core is None:
        if out.shape[1] != into_ri.shape[0]:
            raise misfit(parts, weight)
        return out @ into_ri
    if core.shape[:2] != (out.shape[0], into_ri.shape[0]):
        raise misfit(parts, weight)
    # ... or a Tucker product with a k x k core (proposition 3).
    return torch.einsum("pq...,po,qi->oi...", core, out, into_ri)
