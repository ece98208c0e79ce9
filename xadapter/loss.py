"""The training objective of X-Adapter.

Source: arXiv 2312.02238, section 3.3, equation 4 (null-text training): the squared error of the
upgraded model's noise prediction, with the mapper's offsets, at one timestep shared by both sides.
Legend: b images, c channels, h height, w width, l tokens, d text width, T training timesteps,
k timesteps of a table; abar is the share of signal power left at a timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from xadapter.data import TrainBatch, UpgradedText
from xadapter.mapper import Mapper
from xadapter.taps import capture, inject

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

Prediction = Literal["epsilon", "v_prediction"]
N_TABLE_TIMESTEPS = 25


def add_noise(clean_bchw: Tensor, noise_bchw: Tensor, abar_b: Tensor) -> Tensor:
    """Return the noisy latents z_t [b, c, h, w] at abar [b]."""
    # z_t = sqrt(abar) z + sqrt(1 - abar) e: Ho et al., arXiv 2006.11239, equation 4
    abar = abar_b.view(-1, 1, 1, 1)
    return abar.sqrt() * clean_bchw + (1 - abar).sqrt() * noise_bchw


def target_of(
    clean_bchw: Tensor, noise_bchw: Tensor, abar_b: Tensor, prediction: Prediction
) -> Tensor:
    """Return the upgraded model's target [b, c, h, w]: the noise e, or v at abar [b]."""
    if prediction == "epsilon":
        return noise_bchw
    # v = sqrt(abar) e - sqrt(1 - abar) z: Salimans and Ho, arXiv 2202.00512, section 4
    abar = abar_b.view(-1, 1, 1, 1)
    return abar.sqrt() * noise_bchw - (1 - abar).sqrt() * clean_bchw


def stratified_timesteps(n_images: int, n_timesteps: int, generator: torch.Generator) -> Tensor:
    """Draw int64 [b], one timestep from each of b equal parts of the schedule (ours).

    Every timestep stays equally likely, as in equation 4; the batch's mean varies less.
    """
    # part i covers i / b to (i + 1) / b of the schedule
    position = torch.arange(n_images) + torch.rand(n_images, generator=generator)
    timesteps = (position / n_images * n_timesteps).long()
    return timesteps.clamp(max=n_timesteps - 1)


@dataclass(frozen=True)
class FrozenModels:
    """Both frozen UNets, the upgraded model's null text, and the shared schedule abar [T]."""

    base_unet: UNet2DConditionModel
    upgraded_unet: UNet2DConditionModel
    upgraded_null: UpgradedText
    alphas_cumprod: Tensor
    prediction: Prediction = "epsilon"

    def predict_upgraded(self, noisy_bchw: Tensor, timesteps_b: Tensor) -> Tensor:
        """Return the upgraded model's prediction [b, c, h, w] float32 under its null text."""
        dtype, n_images = self.upgraded_unet.dtype, len(noisy_bchw)
        null = self.upgraded_null
        # one null text for all images; time ids stay float32, since 16 bits cannot hold all sizes
        added = {}
        if null.pooled is not None and null.time_ids is not None:
            added["text_embeds"] = null.pooled.to(dtype).expand(n_images, -1)
            added["time_ids"] = null.time_ids.expand(n_images, -1)
        return self.upgraded_unet(
            noisy_bchw.to(dtype),
            timesteps_b,
            encoder_hidden_states=null.hidden.to(dtype).expand(n_images, -1, -1),
            added_cond_kwargs=added or None,
            return_dict=False,
        )[0].float()

    def base_features(
        self, noisy_bchw: Tensor, timesteps_b: Tensor, text_bld: Tensor
    ) -> Sequence[Tensor]:
        """Return the tapped features F_base of the prompted base model, without gradients."""
        dtype = self.base_unet.dtype
        # the base model is frozen: features are inputs of the mapper, with no graph behind them
        with torch.no_grad(), capture(self.base_unet) as tap:
            self.base_unet(
                noisy_bchw.to(dtype),
                timesteps_b,
                encoder_hidden_states=text_bld.to(dtype),
                return_dict=False,
            )
        return tap.features


def mapper_losses(
    mapper: Mapper,
    models: FrozenModels,
    batch: TrainBatch,
    *,
    timesteps: Tensor,
    base_noise: Tensor,
    upgraded_noise: Tensor,
) -> Tensor:
    """Return equation 4 per image [b]: the mean squared error over c, h, w.

    Same pictures and timesteps [b] on both sides, different noises [b, c, h, w], null text on the
    upgraded side. Only the mapper and the upgraded decoder after the injection are part of the
    gradient.
    """
    abar = models.alphas_cumprod[timesteps]
    # base side: z_t and the prompt c_b give the features, the mapper the offsets (equation 2)
    noisy_base = add_noise(batch.base_latents, base_noise, abar)
    features = models.base_features(noisy_base, timesteps, batch.base_text)
    offsets = mapper([feature.to(mapper.dtype) for feature in features])
    # upgraded side: z'_t and the empty prompt c_u; the offsets are added (equation 3)
    noisy = add_noise(batch.upgraded_latents, upgraded_noise, abar)
    with inject(models.upgraded_unet, offsets):
        prediction = models.predict_upgraded(noisy, timesteps)
    # || e' - e_up(z'_t, t, c_u | offsets) ||^2, or the same on v
    target = target_of(batch.upgraded_latents, upgraded_noise, abar, models.prediction)
    return (prediction - target).square().mean(dim=(1, 2, 3))


def typical_losses(
    models: FrozenModels,
    upgraded_latents: Tensor,
    *,
    generator: torch.Generator,
    n_timesteps: int = N_TABLE_TIMESTEPS,
) -> tuple[Tensor, Tensor]:
    """Measure the loss of the upgraded model alone on a grid: timesteps [k], losses [k].

    Ours: the plain loss is dominated by low noise, where the mapper matters least; dividing by
    these losses gives every timestep the same weight.
    """
    n_train = len(models.alphas_cumprod)
    # evenly spaced, both ends included
    grid = torch.linspace(0, n_train - 1, n_timesteps).round().long()
    # equation 4 without offsets, on the same noisy latents as in training
    losses = []
    device = upgraded_latents.device
    with torch.no_grad():
        for timestep in grid:
            noise = torch.randn(upgraded_latents.shape, generator=generator).to(device)
            timesteps = timestep.repeat(len(upgraded_latents)).to(device)
            abar = models.alphas_cumprod[timesteps]
            prediction = models.predict_upgraded(
                add_noise(upgraded_latents, noise, abar), timesteps
            )
            target = target_of(upgraded_latents, noise, abar, models.prediction)
            losses.append((prediction - target).square().mean())
    return grid.float(), torch.stack(losses).cpu()


Weighting = Callable[[Tensor], Tensor]


def paper_weights(timesteps_b: Tensor) -> Tensor:
    """Return weights [b] of 1: equation 4 as it stands."""
    return torch.ones(len(timesteps_b), device=timesteps_b.device)


def typical_weights(timesteps_b: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Return 1 / typical loss [b] by a table of timesteps [k] and losses [k] (ours)."""
    grid, losses = table
    t = timesteps_b.float().cpu()
    # the logarithm is interpolated: the losses span orders of magnitude
    right = torch.searchsorted(grid, t).clamp(1, len(grid) - 1)
    share = (t - grid[right - 1]) / (grid[right] - grid[right - 1])
    logs = losses.clamp(min=1e-8).log()
    log_loss = logs[right - 1] + share * (logs[right] - logs[right - 1])
    return (-log_loss).exp().to(timesteps_b.device)
