"""What a step of training draws, and its tensors on the device.

Legend: b images, c channels, h height, w width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from xadapter.data import STEP_STREAM, TrainBatch, UpgradedText, generator_for
from xadapter.errors import SettingError
from xadapter.loss import FrozenModels, stratified_timesteps
from xadapter.train_settings import TrainSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class StepDraws:
    """All randomness of a step: timesteps [b], two noises [b, c, h, w], dropped prompts [b]."""

    timesteps: Tensor
    base_noise: Tensor
    upgraded_noise: Tensor
    is_dropped: Tensor


def draw_step(settings: TrainSettings, step: int, batch: TrainBatch, *, n_train: int) -> StepDraws:
    """Draw for all images of a step on all processes; `batch` has the shapes of an image."""
    # all randomness of a step follows from (seed, step): a resumed run repeats it
    generator = generator_for(settings.seed, STEP_STREAM, step)
    n_images = settings.images_per_step
    # one timestep for both sides, two noises (equation 4)
    timesteps = stratified_timesteps(
        n_images,
        n_train,
        generator,
        favored=settings.timestep_range,
        share=settings.range_share,
    )
    base, upgraded = batch.base_latents.shape[1:], batch.upgraded_latents.shape[1:]
    base_noise = torch.randn((n_images, *base), generator=generator)
    upgraded_noise = torch.randn((n_images, *upgraded), generator=generator)
    # drawn even where unused, so the option moves no other draw
    is_dropped = torch.rand(n_images, generator=generator) < settings.null_prompt_share
    return StepDraws(timesteps, base_noise, upgraded_noise, is_dropped)


def clipped_norm(mapper: nn.Module, settings: TrainSettings, step: int) -> float:
    """Clip the gradient; return its norm before.

    Raises `SettingError` if that is no number, since the step would spoil all weights; with float16
    the scaler leaves such a step out.
    """
    limit = math.inf if settings.grad_clip is None else settings.grad_clip
    norm = float(nn.utils.clip_grad_norm_(mapper.parameters(), limit))
    if not math.isfinite(norm) and settings.precision != "float16":
        raise SettingError(
            f"the training diverged: the gradient of step {step + 1} is not finite. The last "
            "checkpoint is kept; begin again in another folder, with a learning_rate below "
            f"{settings.learning_rate:g} or a smaller grad_clip"
        )
    return norm


def averaged_copy(mapper: nn.Module, averages: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of a mapper with averaged weights; its buffers are those of the mapper."""
    copied = copy.deepcopy(mapper).eval().requires_grad_(False)
    for name, weight in copied.named_parameters():
        weight.copy_(averages[name])
    nn.Module.to(copied, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return copied


def frozen_on(device: torch.device, models: FrozenModels, settings: TrainSettings) -> FrozenModels:
    """Freeze both UNets, move them to the device and cast them to the precision."""
    # gradients pass through the upgraded decoder, but none are kept for its weights
    for unet in (models.base_unet, models.upgraded_unet):
        nn.Module.to(unet.requires_grad_(False).eval(), device)
        if settings.precision != "float32":
            nn.Module.to(unet, dtype=DTYPES[settings.precision])
    if settings.gradient_checkpointing:
        models.upgraded_unet.enable_gradient_checkpointing()
    own = models.base_alphas_cumprod
    return replace(
        models,
        upgraded_null=_text_on(device, models.upgraded_null),
        alphas_cumprod=models.alphas_cumprod.to(device),
        base_alphas_cumprod=None if own is None else own.to(device),
    )


def _text_on(device: torch.device, text: UpgradedText) -> UpgradedText:
    return UpgradedText(
        text.hidden.to(device),
        None if text.pooled is None else text.pooled.to(device),
        None if text.time_ids is None else text.time_ids.to(device),
    )


def placed(device: torch.device, batch: TrainBatch, *, has_upgraded_text: bool) -> TrainBatch:
    """Return a batch on the device, with the upgraded text only where it is trained with.

    Raises `SettingError` where it is missing.
    """
    text, ids = batch.upgraded_text, batch.time_ids
    if text is None and has_upgraded_text:
        raise SettingError(
            "upgraded_text 'prompt' needs data with the upgraded model's texts: these have none"
        )
    return TrainBatch(
        on_device(device, batch.base_latents),
        on_device(device, batch.upgraded_latents),
        batch.base_text.to(device),
        _text_on(device, text) if text is not None and has_upgraded_text else None,
        None if ids is None else ids.to(device),
    )


def on_device(device: torch.device, latents: Tensor) -> Tensor:
    """Return latents in float32 on the device, with channels last."""
    return latents.to(device).float().contiguous(memory_format=torch.channels_last)
