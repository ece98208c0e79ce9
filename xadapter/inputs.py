"""A caller's prompts, pictures and sizes as tensors; prompts by the pipelines' own encoders.

Pipelines are those of diffusers, or have parts of the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xadapter.denoiser import Conditions
from xadapter.errors import SettingError
from xadapter.guidance import Guidance
from xadapter.placement import execution_device
from xadapter.vae import pixels_per_latent

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

Picture = Image.Image
_T5_TOKENS = 256  # diffusers' default


@dataclass(frozen=True)
class Sizes:
    """(height, width) pairs: latents of both sides, and the base picture in px."""

    base_latent: tuple[int, int]
    upgraded_latent: tuple[int, int]
    base_px: tuple[int, int]


def sizes_for(
    base_vae: AutoencoderKL, upgraded_vae: AutoencoderKL, *, height_px: int, width_px: int
) -> Sizes:
    """Return both sides' sizes for an upgraded picture: the base latents have half the side.

    Raises `SettingError` for a size that does not divide.
    """
    base_factor, factor = pixels_per_latent(base_vae), pixels_per_latent(upgraded_vae)
    for name, value in (("width", width_px), ("height", height_px)):
        if value < 1 or value % (2 * factor):
            raise SettingError(
                f"{name} must be a multiple of {2 * factor} px (twice the VAE's factor, since the "
                f"base model runs at half the latent side), got {value}"
            )
    upgraded = (height_px // factor, width_px // factor)
    base = (upgraded[0] // 2, upgraded[1] // 2)
    return Sizes(base, upgraded, (base[0] * base_factor, base[1] * base_factor))


@torch.no_grad()
def base_conditions(
    pipe: Any,
    prompts: Sequence[str],
    negative_prompt: str | None,
    guidance: Guidance,
    ip_adapter_image: Picture | None = None,
) -> Conditions:
    """Encode the prompts with the base pipeline's own encoder (LoRAs and embeddings included)."""
    negative = None if negative_prompt is None else [negative_prompt] * len(prompts)
    device = execution_device(pipe.unet)
    text, negative_text = pipe.encode_prompt(
        list(prompts), device, 1, guidance.is_on, negative_prompt=negative
    )[:2]
    added = {}
    if ip_adapter_image is not None:
        added["image_embeds"] = pipe.prepare_ip_adapter_image_embeds(
            ip_adapter_image, None, device, len(prompts), guidance.is_on
        )
    return Conditions(text=text, negative_text=negative_text, added=added)


@torch.no_grad()
def upgraded_conditions(
    pipe: Any,
    prompts: Sequence[str],
    negative_prompt: str | None,
    guidance: Guidance,
    size_px: tuple[int, int],
) -> Conditions:
    """Encode the prompts with the upgraded pipeline's own encoders; `size_px` is (height, width).

    Pooled text and time ids are left out for a pipeline without a second encoder (SD 2.1), and time
    ids for SD3's.
    """
    if not hasattr(pipe, "text_encoder_2"):
        return base_conditions(pipe, prompts, negative_prompt, guidance)
    if hasattr(pipe, "transformer"):
        return _sd3_conditions(pipe, prompts, negative_prompt, guidance)
    negative = None if negative_prompt is None else [negative_prompt] * len(prompts)
    device = execution_device(pipe.unet)
    text, negative_text, pooled, negative_pooled = pipe.encode_prompt(
        prompt=list(prompts),
        device=device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=guidance.is_on,
        negative_prompt=negative,
    )
    # original size, crop from the top left, target size (SDXL, 2307.01952, section 2.2)
    time_ids = torch.tensor([[*size_px, 0, 0, *size_px]], dtype=torch.float32, device=device)
    return Conditions(
        text=text,
        negative_text=negative_text,
        pooled=pooled,
        negative_pooled=negative_pooled,
        time_ids=time_ids.repeat(len(prompts), 1),
    )


def _sd3_conditions(
    pipe: Any,
    prompts: Sequence[str],
    negative_prompt: str | None,
    guidance: Guidance,
) -> Conditions:
    """Encode by SD3's two CLIP encoders, and T5 where the pipeline has it.

    Without T5 there is no third text (ours): diffusers' pipeline appends `max_sequence_length`
    zero vectors to the others in its place.
    """
    text, negative_text, pooled, negative_pooled = pipe.encode_prompt(
        prompt=list(prompts),
        prompt_2=None,
        prompt_3=None,
        device=execution_device(pipe.transformer),
        do_classifier_free_guidance=guidance.is_on,
        negative_prompt=None if negative_prompt is None else [negative_prompt] * len(prompts),
        max_sequence_length=0 if pipe.text_encoder_3 is None else _T5_TOKENS,
    )
    return Conditions(text, negative_text, pooled=pooled, negative_pooled=negative_pooled)


def to_unit_tensor(picture: Picture, size_px: tuple[int, int]) -> Tensor:
    """Convert a picture to float32 [1, 3, height, width] in [0, 1], resized by Lanczos."""
    picture = picture.convert("RGB")
    if picture.size != (size_px[1], size_px[0]):
        picture = picture.resize((size_px[1], size_px[0]), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    return pixels.float() / 255.0
