"""Maps between the features of two models, and updates of weights carried along them.

Source: Theseus, arXiv 2602.12952, in the form of its released code: on the same inputs through
both models, the orthogonal map that aligns a module's input features, and one for its output
features (orthogonal Procrustes: Schoenemann 1966). Legend: n rows (places of all pictures), s and t
features of the old and the new model's module, o and i outputs and inputs of a weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WHITENING = 0.4
_FLOOR = 1e-6  # of the largest eigenvalue: directions without any activation are not enlarged


@dataclass
class Moments:
    """Sums over rows of two models' features, in float64 on the CPU."""

    n: int
    sum_s: Tensor
    sum_t: Tensor
    ss: Tensor
    tt: Tensor
    st: Tensor

    @classmethod
    def empty(cls, n_s: int, n_t: int) -> Moments:
        """Return those of no rows, for features of two widths."""
        sizes = ((n_s,), (n_t,), (n_s, n_s), (n_t, n_t), (n_s, n_t))
        return cls(0, *(torch.zeros(size, dtype=torch.float64) for size in sizes))

    def add(self, rows_ns: Tensor, rows_nt: Tensor) -> None:
        """Add rows of the same inputs. Raises `ValueError` for two numbers of rows."""
        if len(rows_ns) != len(rows_nt):
            raise ValueError(f"{len(rows_ns)} rows of one model, {len(rows_nt)} of the other")
        s, t = rows_ns.float(), rows_nt.float()
        self.n += len(s)
        self.sum_s += s.sum(dim=0).cpu()
        self.sum_t += t.sum(dim=0).cpu()
        self.ss += (s.T @ s).cpu()
        self.tt += (t.T @ t).cpu()
        self.st += (s.T @ t).cpu()

    def centered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return A^T A [s, s], B^T B [t, t] and A^T B [s, t] of rows less their means."""
        s, t, n = self.sum_s, self.sum_t, max(self.n, 1)
        return (
            self.ss - torch.outer(s, s) / n,
            self.tt - torch.outer(t, t) / n,
            self.st - torch.outer(s, t) / n,
        )


def aligning_map(moments: Moments, *, whitening: float = WHITENING) -> Tensor:
    """Return the map T [s, t] of the old model's features to the new one's, float64.

    T = U V^T with U S V^T the SVD of (A^T A)^-p A^T B (B^T B)^-p and p the `whitening`: of all
    (semi-)orthogonal matrices the one that aligns the centered rows best. With t >= s it keeps
    every norm.
    """
    ss, tt, cross = moments.centered()
    if whitening:
        cross = _power(ss, -whitening) @ cross @ _power(tt, -whitening)
    u, _, vh = torch.linalg.svd(cross, full_matrices=False)
    return u @ vh


def _power(square: Tensor, exponent: float) -> Tensor:
    """Return a symmetric matrix to a power, with its smallest eigenvalues raised to a floor."""
    values, vectors = torch.linalg.eigh(square)
    floor = max(float(values[-1]) * _FLOOR, torch.finfo(values.dtype).tiny)
    return (vectors * values.clamp(min=floor) ** exponent) @ vectors.T


def random_map(n_s: int, n_t: int, generator: torch.Generator) -> Tensor:
    """Return a (semi-)orthogonal matrix [s, t], uniform by Haar's measure, float64."""
    longer, shorter = max(n_s, n_t), min(n_s, n_t)
    drawn = torch.randn(longer, shorter, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(drawn)
    q = q * torch.diagonal(r).sign()  # without it the signs are not uniform (Mezzadri 2007)
    return q if n_s >= n_t else q.T


def carried(update: Tensor, *, inputs: Tensor, outputs: Tensor) -> Tensor:
    """Return T_out^T D T_in [o_t, i_t(, k, k)] of an update D [o_s, i_s(, k, k)], tap by tap."""
    moved = torch.einsum("op,oi...,iq->pq...", outputs, update.double(), inputs)
    return moved.to(update.dtype)


def with_energy_of(update: Tensor, source: Tensor) -> Tensor:
    """Return an update scaled to the Frobenius norm of another one; a zero update stays zero."""
    norm = update.norm()
    return update if norm == 0 else update * (source.norm() / norm)
