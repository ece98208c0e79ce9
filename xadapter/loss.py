"""The training objective of X-Adapter.

Source: arXiv 2312.02238, section 3.3, equation 4 (null-text training): the squared error of the
upgraded model's noise prediction, with the mapper's offsets, at one timestep shared by both sides.
Legend: b images, c channels, h height, w width, l tokens, d text width, T training timesteps,
k timesteps of a table; abar is the share of signal power left at a timestep.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xadapter.data import TrainBatch, UpgradedText
from xadapter.signals import Change, change_of, mapped, scaled, weights_dtype
from xadapter.sites import read_names, write_names
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


def stratified_timesteps(
    n_images: int,
    n_timesteps: int,
    generator: torch.Generator,
    *,
    favored: tuple[float, float] = (0.0, 1.0),
    share: float = 1.0,
) -> Tensor:
    """Draw int64 [b], one timestep from each of b equal parts of their distribution (ours).

    `share` of the images fall into the `favored` part of the schedule, evenly, the others
    anywhere; the default is uniform, as in equation 4. The batch's mean varies less than that of
    independent draws.
    """
    # part i covers i / b to (i + 1) / b of the distribution
    position = (torch.arange(n_images) + torch.rand(n_images, generator=generator)) / n_images
    if favored != (0.0, 1.0):
        position = _favoring(position, *favored, share)
    return (position * n_timesteps).long().clamp(max=n_timesteps - 1)


def _favoring(uniform_b: Tensor, low: float, high: float, share: float) -> Tensor:
    """Return the quantiles of the density (1 - p) + p [low <= x <= high] / (high - low)."""
    # cumulative shares at the corners 0, low, high, 1; between them it is linear
    corners = torch.tensor([0.0, low, high, 1.0])
    totals = torch.tensor([0.0, (1 - share) * low, (1 - share) * high + share, 1.0])
    part = torch.bucketize(uniform_b, totals[1:3], right=True)
    width = (totals[part + 1] - totals[part]).clamp(min=1e-12)
    place = (uniform_b - totals[part]) / width
    return corners[part] + place.clamp(0, 1) * (corners[part + 1] - corners[part])


@dataclass(frozen=True)
class FrozenModels:
    """Both frozen UNets, the upgraded model's null text, and the noise schedules abar [T].

    `alphas_cumprod` is the upgraded model's schedule, and the base model's unless
    `base_alphas_cumprod` is given. `prediction` is what the upgraded model predicts; the base
    model's features are read, its prediction is not, so it may be of either kind.
    """

    base_unet: UNet2DConditionModel
    upgraded_unet: UNet2DConditionModel
    upgraded_null: UpgradedText
    alphas_cumprod: Tensor
    prediction: Prediction = "epsilon"
    base_alphas_cumprod: Tensor | None = None

    def upgraded_text_of(self, batch: TrainBatch) -> UpgradedText:
        """Return the null text, or the batch's own, with the sizes of its pictures."""
        text = self.upgraded_null if batch.upgraded_text is None else batch.upgraded_text
        return text if batch.time_ids is None else replace(text, time_ids=batch.time_ids)

    def predict_upgraded(
        self, noisy_bchw: Tensor, timesteps_b: Tensor, text: UpgradedText | None = None
    ) -> Tensor:
        """Return the upgraded model's prediction [b, c, h, w] float32 under a text [null]."""
        dtype, n_images = self.upgraded_unet.dtype, len(noisy_bchw)
        text = self.upgraded_null if text is None else text
        # one text for all images, or one each; time ids stay float32, since 16 bits cannot hold
        # all sizes
        added = {}
        if text.pooled is not None and text.time_ids is not None:
            added["text_embeds"] = text.pooled.to(dtype).expand(n_images, -1)
            added["time_ids"] = text.time_ids.expand(n_images, -1)
        return self.upgraded_unet(
            noisy_bchw.to(dtype),
            timesteps_b,
            encoder_hidden_states=text.hidden.to(dtype).expand(n_images, -1, -1),
            added_cond_kwargs=added or None,
            return_dict=False,
        )[0].float()

    def base_features(
        self,
        noisy_bchw: Tensor,
        timesteps_b: Tensor,
        text_bld: Tensor,
        *,
        names: tuple[str, ...] | None = None,
    ) -> Sequence[Tensor]:
        """Return the features F_base of the prompted base model at sites, without gradients.

        `names` defaults to the sites of the paper.
        """
        dtype = self.base_unet.dtype
        # the base model is frozen: features are inputs of the mapper, with no graph behind them
        with torch.no_grad(), capture(self.base_unet, names=names) as tap:
            self.base_unet(
                noisy_bchw.to(dtype),
                timesteps_b,
                encoder_hidden_states=text_bld.to(dtype),
                return_dict=False,
            )
        return tap.features


def mapper_losses(
    mapper: nn.Module,
    models: FrozenModels,
    batch: TrainBatch,
    *,
    timesteps: Tensor,
    base_noise: Tensor,
    upgraded_noise: Tensor,
    dtype: torch.dtype = torch.float32,
    is_checkpointed: bool = False,
) -> Tensor:
    """Return equation 4 per image [b]: the mean squared error over c, h, w.

    Same pictures and timesteps [b] on both sides, different noises [b, c, h, w], null text on the
    upgraded side, or the batch's own upgraded text. Only the mapper and the upgraded decoder after
    the injection are part of the gradient. The mapper computes in `dtype`; `is_checkpointed`
    computes its activations again in the backward pass instead of keeping them.
    """
    abar = models.alphas_cumprod[timesteps]
    base_abar = abar
    if models.base_alphas_cumprod is not None:
        base_abar = models.base_alphas_cumprod[timesteps]
    # base side: z_t and the prompt c_b give the features, the mapper the offsets (equation 2)
    noisy_base = add_noise(batch.base_latents, base_noise, base_abar)
    reads = read_names(mapper, models.base_unet)
    features = models.base_features(noisy_base, timesteps, batch.base_text, names=reads)
    inputs = [feature.to(weights_dtype(mapper)) for feature in features]
    device = batch.base_latents.device.type
    with _autocast(device, dtype):
        if is_checkpointed:
            offsets = checkpoint(mapped, mapper, inputs, timesteps, use_reentrant=False)
        else:
            offsets = mapped(mapper, inputs, timesteps)
    # upgraded side: z'_t and the empty prompt c_u; the offsets are added (equation 3)
    noisy = add_noise(batch.upgraded_latents, upgraded_noise, abar)
    unet = models.upgraded_unet
    signals = scaled(mapper, offsets, 1.0)
    change = _change_in(mapper, device, dtype)
    with inject(unet, signals, names=write_names(mapper, unet), change=change):
        prediction = models.predict_upgraded(noisy, timesteps, models.upgraded_text_of(batch))
    # || e' - e_up(z'_t, t, c_u | offsets) ||^2, or the same on v
    target = target_of(batch.upgraded_latents, upgraded_noise, abar, models.prediction)
    return (prediction - target).square().mean(dim=(1, 2, 3))


def _autocast(device: str, dtype: torch.dtype) -> AbstractContextManager[Any]:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype=dtype)


def _change_in(mapper: nn.Module, device: str, dtype: torch.dtype) -> Change | None:
    """Return how signals act, computed in `dtype` too: hooks run outside of the mapper's call."""
    change = change_of(mapper)
    if change is None:
        return None

    def changed(i: int, hidden_bchw: Tensor, signals: Sequence[Tensor]) -> Tensor:
        with _autocast(device, dtype):
            return change(i, hidden_bchw, signals)

    return changed


def typical_losses(
    models: FrozenModels,
    batch: TrainBatch,
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
    upgraded_latents, text = batch.upgraded_latents, models.upgraded_text_of(batch)
    device = upgraded_latents.device
    with torch.no_grad():
        for timestep in grid:
            noise = torch.randn(upgraded_latents.shape, generator=generator).to(device)
            timesteps = timestep.repeat(len(upgraded_latents)).to(device)
            abar = models.alphas_cumprod[timesteps]
            noisy = add_noise(upgraded_latents, noise, abar)
            prediction = models.predict_upgraded(noisy, timesteps, text)
            target = target_of(upgraded_latents, noise, abar, models.prediction)
            losses.append((prediction - target).square().mean())
    return grid.float(), torch.stack(losses).cpu()
