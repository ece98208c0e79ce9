"""LoKr: W' = W + (alpha / r) kron(w1, w2), each factor whole or a low-rank product.

Sources: KronA, arXiv 2212.10650, section 4; LyCORIS, arXiv 2309.14859, section 3.2, with a core t2
as in Tucker for convolutions. Where both factors are whole there is no rank and alpha is ignored,
as in LyCORIS.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runners.weights.parts import Parts, alpha_over_rank, misfit, shaped_as


def lokr_change(parts: Parts, weight: Tensor) -> Tensor:
    """Take w1 [o1, i1] or w1_a [o1, r] w1_b [r, i1]; w2 [o2, i2(, k, k)] or parts of `_second`."""
    first, second = _first(parts, weight), _second(parts, weight)
    # Each element of w1 scales one block of w2, its kernel included (KronA, section 4).
    while first.ndim < second.ndim:
        first = first.unsqueeze(-1)
    product = torch.kron(first.contiguous(), second.contiguous())
    if product.shape[:2].numel() * product.shape[2:].numel() != weight.numel():
        raise misfit(parts, weight)
    return shaped_as(_scale(parts) * product, weight, parts)


def _first(parts: Parts, weight: Tensor) -> Tensor:
    return parts["w1"] if "w1" in parts else _matmul(parts, weight, "w1")


def _second(parts: Parts, weight: Tensor) -> Tensor:
    """Return w2, w2_a [o2, r] w2_b [r, i2(, k, k)] or w2_a [r, o2] w2_b [r, i2] t2 [r, r, k, k]."""
    if "w2" in parts:
        return parts["w2"]
    if "t2" not in parts:
        return _matmul(parts, weight, "w2")
    core, out_ro, into_ri = parts["t2"], parts["w2_a"], parts["w2_b"]
    if core.shape[:2] != (out_ro.shape[0], into_ri.shape[0]):
        raise misfit(parts, weight)
    # Tucker: the core t2 between two 1 x 1 convolutions.
    return torch.einsum("pq...,po,qi->oi...", core, out_ro, into_ri)


def _matmul(parts: Parts, weight: Tensor, name: str) -> Tensor:
    out_or, into = parts[f"{name}_a"], parts[f"{name}_b"]
    if out_or.shape[1] != into.shape[0]:
        raise misfit(parts, weight)
    return (out_or @ into.flatten(1)).reshape(out_or.shape[0], *into.shape[1:])


def _scale(parts: Parts) -> float:
    # alpha / r with the rank of the second factor; two whole factors have none.
    low_rank = next((parts[name] for name in ("w2_b", "w1_b") if name in parts), None)
    return 1.0 if low_rank is None else alpha_over_rank(parts, low_rank.shape[0])
