"""ProLoRA: an update's parts inside and outside of a weight's main directions, moved apart.

Source: ProLoRA, arXiv 2506.04244. Both weights of a pair have one shape [m, n]; kernels are
flattened into the columns. W = U S V^T; the main directions U_par, V_par are the first k columns, k
the smallest number with that share of the energy; all others, the null space too, are their
complement. Whether the paper's threshold of .8 is that of the energy, of the similarity or of both
is not clear from its text; here it is of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ENERGY = 0.8
SIMILARITY = 0.8


@dataclass(frozen=True)
class Directions:
    """A weight's singular vectors U [m, r], V [n, r], r = min(m, n), and the k main ones."""

    left: Tensor
    right: Tensor
    n_main: int

    @property
    def main(self) -> tuple[Tensor, Tensor]:
        """U_par [m, k] and V_par [n, k]."""
        return self.left[:, : self.n_main], self.right[:, : self.n_main]


def directions(weight: Tensor, *, energy: float = ENERGY) -> Directions:
    """Return the directions of a weight [m, n(, k, k)], with the effective rank at an energy."""
    u, s, vh = torch.linalg.svd(weight.float().flatten(1), full_matrices=False)
    shares = s.square().cumsum(0) / s.square().sum()
    n_main = min(int((shares < energy).sum()) + 1, len(s))
    return Directions(u, vh.T, n_main)


def similarity(source: Directions, target: Directions) -> float:
    """Return the smaller of ||U_s^T U_t||_F^2 / r and ||V_s^T V_t||_F^2 / r, in 0..1."""
    rank = source.left.shape[1]
    left = (source.left.T @ target.left).square().sum()
    right = (source.right.T @ target.right).square().sum()
    return float(torch.minimum(left, right) / rank)


def projected(update: Tensor, source: Directions, target: Directions) -> Tensor:
    """Return the update of the target's weight, in the shape of the source's [m, n(, k, k)].

    D_par = U_s,par U_s,par^T D V_s,par V_s,par^T, D_perp the same on both complements (the cross
    terms are dropped), and then each again by the target's projectors.
    """
    flat = update.float().flatten(1)
    inside = _inside(_inside(flat, *source.main), *target.main)
    outside = _outside(_outside(flat, *source.main), *target.main)
    return (inside + outside).reshape(update.shape).to(update.dtype)


def _inside(flat_mn: Tensor, left: Tensor, right: Tensor) -> Tensor:
    return left @ (left.T @ flat_mn @ right) @ right.T


def _outside(flat_mn: Tensor, left: Tensor, right: Tensor) -> Tensor:
    rest = flat_mn - left @ (left.T @ flat_mn)
    return rest - (rest @ right) @ right.T
