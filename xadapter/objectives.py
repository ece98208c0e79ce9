"""Objectives of training: what becomes of equation 4's error of each image at its timestep.

Source of equation 4: X-Adapter, arXiv 2312.02238, section 3.3. Every objective is
`terms(mse [b], timesteps [b]) -> [b]`; the loss of a step is the mean of the terms. Legend: b
images, T training timesteps, k entries of a table, m basis functions; abar is the share of signal
power left at a timestep, SNR = abar / (1 - abar).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xadapter.loss import Prediction
from xadapter.train_settings import TrainSettings

Table = tuple[Tensor, Tensor]  # timesteps [k], losses [k]
Objective = Callable[[Tensor, Tensor], Tensor]
N_BASIS = 32
UNCERTAINTY_LEARNING_RATE = 1e-2  # it has a few numbers, which must move by about 5


def objective_for(
    settings: TrainSettings,
    alphas_cumprod: Tensor,
    prediction: Prediction,
    *,
    table: Table | None = None,
) -> Objective | Uncertainty:
    """Return the objective of a run; `table` holds the typical losses, for "typical" alone."""
    if settings.weighting == "min-snr":
        weights = min_snr_weights(alphas_cumprod, settings.min_snr_gamma, prediction)
        return Weighted(weights)
    if settings.weighting == "edm2":
        return Uncertainty(len(alphas_cumprod)).to(alphas_cumprod.device)
    if settings.weighting == "typical":
        if table is None:
            raise ValueError("the objective 'typical' needs a table of losses")
        timesteps = torch.arange(len(alphas_cumprod), device=alphas_cumprod.device)
        return Weighted(typical_weights(timesteps, table))
    return Weighted(torch.ones_like(alphas_cumprod))


@dataclass(frozen=True)
class Weighted:
    """w(t) mse with fixed weights [T]; all 1 is the paper's objective, equation 4."""

    weights: Tensor

    def __call__(self, mse_b: Tensor, timesteps_b: Tensor) -> Tensor:
        """Return the weighted errors [b]."""
        return mse_b * self.weights[timesteps_b]


def typical_weights(timesteps_b: Tensor, table: Table) -> Tensor:
    """Return 1 / typical loss [b] by a table of timesteps [k] and losses [k] (ours).

    w(t) = 1 / L(t), L(t) the loss of the upgraded model alone (`xadapter.loss.typical_losses`).
    """
    grid, losses = table
    t = timesteps_b.float().cpu()
    # the logarithm is interpolated: the losses span orders of magnitude
    right = torch.searchsorted(grid, t).clamp(1, len(grid) - 1)
    share = (t - grid[right - 1]) / (grid[right] - grid[right - 1])
    logs = losses.clamp(min=1e-8).log()
    log_loss = logs[right - 1] + share * (logs[right] - logs[right - 1])
    return (-log_loss).exp().to(timesteps_b.device)


def min_snr_weights(alphas_cumprod: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """Return the min-SNR weights [T]: min(SNR, gamma) / SNR, on v min(SNR, gamma) / (SNR + 1).

    Source: Hang et al., arXiv 2303.09556, section 3.4. Both are min(SNR, gamma) on the clean
    image.
    """
    snr = alphas_cumprod / (1 - alphas_cumprod)
    if prediction == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1)
    # gamma / SNR is infinite where no signal is left: the minimum is 1 there
    return (gamma / snr).clamp(max=1.0)


class Uncertainty(nn.Module):
    """mse / exp(u(t)) + u(t) with a learned u: at its optimum exp(u(t)) is the loss at t.

    Source: Karras et al., arXiv 2312.02696 (EDM2), uncertainty-based loss weighting, after Kendall
    et al., arXiv 1705.07115. There u is a linear layer over random Fourier features of the noise
    level; here over m cosines of the timestep (ours), so that nothing is drawn:
    u(t) = sum_k a_k cos(pi k (t + 1/2) / T). It starts at 0, the paper's objective.
    """

    def __init__(self, n_timesteps: int, n_basis: int = N_BASIS) -> None:
        super().__init__()
        self.n_timesteps = n_timesteps
        self.amplitudes = nn.Parameter(torch.zeros(n_basis))

    def log_loss(self, timesteps_b: Tensor) -> Tensor:
        """Return u [b]."""
        k = torch.arange(len(self.amplitudes), device=timesteps_b.device)
        angles = math.pi * (timesteps_b[:, None] + 0.5) / self.n_timesteps * k
        return angles.cos() @ self.amplitudes

    def forward(self, mse_b: Tensor, timesteps_b: Tensor) -> Tensor:
        """Return the terms [b]."""
        u = self.log_loss(timesteps_b)
        return mse_b / u.exp() + u
