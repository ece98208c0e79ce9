"""The hand-over between the stages: stage-1 latents become a noisy latent of the upgraded model.

Source: X-Adapter, arXiv 2312.02238, two-stage denoising (decode with the base VAE, encode with
the upgraded VAE). Legend: b images, c channels, h height, w width; images are float32 in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Resize = Callable[[Tensor, int, int], Tensor]


def resize_float(image_bchw: Tensor, height_px: int, width_px: int) -> Tensor:
    """Bicubic, antialiased, in float: [b, 3, h, w] -> [b, 3, height_px, width_px]."""
    if image_bchw.shape[-2:] == (height_px, width_px):
        return image_bchw
    return F.interpolate(
        image_bchw, size=(height_px, width_px), mode="bicubic", antialias=True, align_corners=False
    )


def resize_8bit(image_bchw: Tensor, height_px: int, width_px: int) -> Tensor:
    """The released code's: round to 8 bit (half to even), resize with PIL's bicubic, back."""
    resized = []
    for pixels in to_uint8(image_bchw):
        picture = Image.fromarray(pixels).resize((width_px, height_px), Image.Resampling.BICUBIC)
        resized.append(np.asarray(picture))
    stacked = torch.from_numpy(np.stack(resized)).to(image_bchw.device)
    return stacked.permute(0, 3, 1, 2).float() / 255.0 * 2.0 - 1.0


def to_uint8(image_bchw: Tensor) -> np.ndarray:
    """[b, 3, h, w] in [-1, 1] -> uint8 [b, h, w, 3], clamped, rounded half to even."""
    unit = (image_bchw.float() / 2 + 0.5).clamp(0, 1)
    return (unit.permute(0, 2, 3, 1).cpu().numpy() * 255).round().astype(np.uint8)


def to_pil(image_bchw: Tensor) -> list[Image.Image]:
    """[b, 3, h, w] in [-1, 1] -> b RGB pictures."""
    return [Image.fromarray(pixels) for pixels in to_uint8(image_bchw)]


@contextmanager
def upcast_vae(vae: Any) -> Iterator[Any]:
    """Run a VAE that overflows in half precision (`force_upcast`) in float32, then put it back."""
    dtype = vae.dtype
    half = dtype in (torch.float16, torch.bfloat16)
    if not (half and getattr(vae.config, "force_upcast", False)):
        yield vae
        return
    vae.to(dtype=torch.float32)
    try:
        yield vae
    finally:
        vae.to(dtype=dtype)


def decode_image(vae: Any, latents_bchw: Tensor) -> Tensor:
    """Scaled latents -> the decoder's raw output, float32 [b, 3, H, W], about [-1, 1]."""
    with upcast_vae(vae), torch.no_grad():
        latents = _unscaled(vae, latents_bchw)
        return vae.decode(latents.to(vae.dtype), return_dict=False)[0].float()


def encode_image(vae: Any, image_bchw: Tensor, posterior_noise_bchw: Tensor) -> Tensor:
    """Image in [-1, 1] -> scaled latents, a sample of the posterior made with the given noise."""
    with upcast_vae(vae), torch.no_grad():
        image = image_bchw.to(device=vae.device, dtype=vae.dtype)
        posterior = vae.encode(image, return_dict=False)[0]
        mean, std = posterior.mean.float(), posterior.std.float()
    return _scaled(vae, mean + std * posterior_noise_bchw.to(mean.device))


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor] | None:
    mean, std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    if mean is None or std is None:
        return None
    return (
        torch.tensor(mean, device=like.device, dtype=like.dtype).view(1, -1, 1, 1),
        torch.tensor(std, device=like.device, dtype=like.dtype).view(1, -1, 1, 1),
    )


def _scaled(vae: Any, latents: Tensor) -> Tensor:
    statistics = _statistics(vae, latents)
    if statistics is None:
        return latents * vae.config.scaling_factor
    mean, std = statistics
    return (latents - mean) * vae.config.scaling_factor / std


def _unscaled(vae: Any, latents: Tensor) -> Tensor:
    statistics = _statistics(vae, latents)
    if statistics is None:
        return latents / vae.config.scaling_factor
    mean, std = statistics
    return latents * std / vae.config.scaling_factor + mean


@dataclass(frozen=True)
class Bridge:
    """An image on its way: the base VAE's picture and the upgraded VAE's latents of it.

    `image` is float32 [b, 3, H, W] at the base size (clamped to [-1, 1] unless "raw"),
    `upgraded_latents` [b, c, h, w] scaled, without noise: they serve every t0.
    """

    image: Tensor
    upgraded_latents: Tensor


def cross_bridge(
    base_vae: Any,
    upgraded_vae: Any,
    base_latents_bchw: Tensor,
    *,
    posterior_noise: Tensor,
    resize: Resize = resize_float,
    pixels: Literal["image", "raw"] = "image",
) -> Bridge:
    """Decode base latents, resize to the upgraded size, encode with the upgraded VAE.

    The upgraded size follows from `posterior_noise` [b, c, h, w]. "image" clamps the decoder's
    output to [-1, 1]; "raw" does not (noisy latents of the truncated mode).
    """
    image = decode_image(base_vae, base_latents_bchw)
    if pixels == "image":
        image = image.clamp(-1, 1)
    return Bridge(image, encode_resized(upgraded_vae, image, posterior_noise, resize=resize))


def encode_resized(
    vae: Any, image_bchw: Tensor, posterior_noise: Tensor, *, resize: Resize
) -> Tensor:
    """Resize an image to the size of the posterior noise's picture and encode it."""
    factor = pixels_per_latent(vae)
    height, width = (side * factor for side in posterior_noise.shape[-2:])
    return encode_image(vae, resize(image_bchw, height, width), posterior_noise)


def pixels_per_latent(vae: Any) -> int:
    """Pixels of the picture per side of one latent."""
    return 2 ** (len(vae.config.block_out_channels) - 1)
