"""VAEs: decode, resize and encode, and the bridge from base latents to upgraded latents.

Source: X-Adapter, arXiv 2312.02238, section 3.3, equation 5: z' = E_up(D_base(z)). Legend:
b images, c channels, h height, w width; images are float32 in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from xadapter.placement import execution_device

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

_LARGE_PX = 512 * 512  # of all images of a call
Resize = Callable[[Tensor, int, int], Tensor]


def resize_float(image_bchw: Tensor, height_px: int, width_px: int) -> Tensor:
    """Resize [b, 3, h, w] to [b, 3, height_px, width_px]: bicubic, antialiased, in float."""
    if image_bchw.shape[-2:] == (height_px, width_px):
        return image_bchw
    return F.interpolate(
        image_bchw, size=(height_px, width_px), mode="bicubic", antialias=True, align_corners=False
    )


def resize_8bit(image_bchw: Tensor, height_px: int, width_px: int) -> Tensor:
    """Resize as the released code does: round to 8 bit (half to even), PIL's bicubic, back."""
    resized = []
    for pixels in to_uint8(image_bchw):
        picture = Image.fromarray(pixels).resize((width_px, height_px), Image.Resampling.BICUBIC)
        resized.append(np.asarray(picture))
    stacked = torch.from_numpy(np.stack(resized)).to(image_bchw.device)
    return stacked.permute(0, 3, 1, 2).float() / 255.0 * 2.0 - 1.0


def to_uint8(image_bchw: Tensor) -> np.ndarray:
    """Convert [b, 3, h, w] in [-1, 1] to uint8 [b, h, w, 3], clamped, rounded half to even."""
    unit = (image_bchw.float() / 2 + 0.5).clamp(0, 1)
    # torch rounds half to even, as diffusers' image processor does; 8 bits leave the device
    levels = (unit * 255).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def to_pil(image_bchw: Tensor) -> list[Image.Image]:
    """Convert [b, 3, h, w] in [-1, 1] to b RGB pictures."""
    return [Image.fromarray(pixels) for pixels in to_uint8(image_bchw)]


@contextmanager
def upcast_vae(vae: AutoencoderKL) -> Iterator[AutoencoderKL]:
    """Run a VAE that overflows in half precision (`force_upcast`) in float32, then put it back.

    SD 1.5's file does not have the entry, and diffusers fills it in with true: it does not count.
    """
    dtype = vae.dtype
    half = dtype in (torch.float16, torch.bfloat16)
    is_stated = "force_upcast" not in vae.config.get("_use_default_values", ())
    if not (half and is_stated and vae.config.get("force_upcast", False)):
        yield vae
        return
    cast: Any = vae.to
    cast(dtype=torch.float32)
    try:
        yield vae
    finally:
        cast(dtype=dtype)


def decode_image(vae: AutoencoderKL, latents_bchw: Tensor) -> Tensor:
    """Decode scaled latents to the decoder's raw output, float32 [b, 3, H, W], about [-1, 1]."""
    with upcast_vae(vae), torch.no_grad():
        # diffusion runs on latents scaled to about unit variance (2112.10752, appendix G)
        latents = raw_latents(vae, latents_bchw).to(vae.dtype)
        n_px = math.prod(latents.shape[-2:]) * pixels_per_latent(vae) ** 2
        images = [vae.decode(part, return_dict=False)[0] for part in _slices(latents, n_px)]
        return torch.cat(images).float()


def encode_image(vae: AutoencoderKL, image_bchw: Tensor, posterior_noise_bchw: Tensor) -> Tensor:
    """Encode an image in [-1, 1] to scaled latents: a sample of the posterior with that noise."""
    with upcast_vae(vae), torch.no_grad():
        image = image_bchw.to(device=execution_device(vae), dtype=vae.dtype)
        parts = _slices(image, math.prod(image.shape[-2:]))
        posteriors: Any = [vae.encode(part, return_dict=False)[0] for part in parts]
        mu = torch.cat([posterior.mean for posterior in posteriors]).float()
        sigma = torch.cat([posterior.std for posterior in posteriors]).float()
        # z = mu + sigma e (Kingma and Welling, arXiv 1312.6114, section 2.4)
        latents = mu + sigma * posterior_noise_bchw.to(mu.device)
    return scaled_latents(vae, latents)


def encode_mean(vae: AutoencoderKL, image_bchw: Tensor) -> Tensor:
    """Encode an image in [-1, 1] to scaled latents [b, c, h, w]: the mean of the posterior."""
    factor = pixels_per_latent(vae)
    height, width = (side // factor for side in image_bchw.shape[-2:])
    channels = vae.config["latent_channels"]
    # 0 sigma is 0: no noise is drawn
    return encode_image(vae, image_bchw, torch.zeros(1, channels, height, width))


def raw_latents(vae: AutoencoderKL, latents_bchw: Tensor) -> Tensor:
    """Return the VAE's own latents of scaled ones."""
    mean, std, factor = _statistics(vae, latents_bchw)
    return latents_bchw * std / factor + mean


def scaled_latents(vae: AutoencoderKL, raw_bchw: Tensor) -> Tensor:
    """Return scaled latents of the VAE's own: the inverse of `raw_latents`."""
    mean, std, factor = _statistics(vae, raw_bchw)
    return (raw_bchw - mean) * factor / std


def _slices(batch_bchw: Tensor, image_px: int) -> list[Any]:
    """Split a batch into single images where it is large: a VAE's memory grows with the pixels.

    At 1024 px SDXL's takes some 2.6 GiB an image, more than a step of both UNets does.
    """
    is_large = len(batch_bchw) * image_px > _LARGE_PX
    return list(batch_bchw.split(1)) if is_large else [batch_bchw]


def _statistics(vae: AutoencoderKL, like: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return mean and deviation per channel of the VAE's latents, and scale.

    Without them the mean is the one `shift_factor` of all channels (SD3, FLUX), else 0, and the
    deviation 1.
    """
    means, stds = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if means is None or stds is None:
        means, stds = (vae.config.get("shift_factor") or 0.0,), (1.0,)
    mean, std = (like.new_tensor(values).view(1, -1, 1, 1) for values in (means, stds))
    return mean, std, vae.config["scaling_factor"]


@dataclass(frozen=True)
class Bridge:
    """The base VAE's picture of stage 1, and the upgraded VAE's latents of that picture.

    `image` is float32 [b, 3, H, W] at the base size (clamped to [-1, 1] unless "raw"),
    `upgraded_latents` [b, c, h, w] scaled, without noise: they serve every t0.
    """

    image: Tensor
    upgraded_latents: Tensor


def cross_bridge(
    base_vae: AutoencoderKL,
    upgraded_vae: AutoencoderKL,
    base_latents_bchw: Tensor,
    *,
    posterior_noise: Tensor,
    resize: Resize = resize_float,
    pixels: Literal["image", "raw"] = "image",
) -> Bridge:
    """Decode base latents, resize to the upgraded size, encode with the upgraded VAE (equation 5).

    The upgraded size follows from `posterior_noise` [b, c, h, w]. "image" clamps the decoder's
    output to [-1, 1]; "raw" does not (noisy latents of the truncated mode).
    """
    # D_base(z), then to the upgraded size, then E_up
    image = decode_image(base_vae, base_latents_bchw)
    if pixels == "image":
        image = image.clamp(-1, 1)
    return Bridge(image, encode_resized(upgraded_vae, image, posterior_noise, resize=resize))


def encode_resized(
    vae: AutoencoderKL, image_bchw: Tensor, posterior_noise: Tensor, *, resize: Resize
) -> Tensor:
    """Resize an image to the size of the posterior noise's picture and encode it."""
    factor = pixels_per_latent(vae)
    height, width = (side * factor for side in posterior_noise.shape[-2:])
    return encode_image(vae, resize(image_bchw, height, width), posterior_noise)


def pixels_per_latent(vae: AutoencoderKL) -> int:
    """Return the pixels of the picture per side of one latent."""
    # each level but the last halves the sides
    return 2 ** (len(vae.config["block_out_channels"]) - 1)
