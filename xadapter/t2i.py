"""T2I-Adapters: residuals of condition images, computed once for all steps.

Source: T2I-Adapter, arXiv 2302.08453, section 3.2 (features added to the encoder's levels). Legend:
b images, r rows (2b with guidance, else b), c channels, h height, w width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xadapter.denoiser import Conditions
from xadapter.placement import execution_device

if TYPE_CHECKING:
    from diffusers import T2IAdapter

RESIDUALS = "down_intrablock_additional_residuals"
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's mode "L"


@dataclass(frozen=True)
class T2IInput:
    """A T2I-Adapter and its condition: `image` [b, 3, height_px, width_px] in [0, 1]."""

    net: T2IAdapter
    image: Tensor
    scale: float = 1.0


@torch.no_grad()
def adapter_residuals(inputs: Sequence[T2IInput], *, guided: bool) -> list[Tensor]:
    """Return one residual [r, c_i, h_i, w_i] per level, summed over the adapters at their scales.

    Adapters of one input channel get the image in gray.
    """
    total: list[Tensor] = []
    for given in inputs:
        image = given.image.to(device=execution_device(given.net), dtype=given.net.dtype)
        if given.net.config["in_channels"] == 1:
            image = _gray(image)
        features = [feature * given.scale for feature in given.net(image)]
        total = [a + b for a, b in zip(total, features, strict=True)] if total else features
    return [torch.cat([feature] * 2) for feature in total] if guided else total


def with_adapters(
    conditions: Conditions, inputs: Sequence[T2IInput], *, guided: bool
) -> Conditions:
    """Return the conditions with the adapters' residuals among the UNet's arguments."""
    if not inputs:
        return conditions
    residuals = adapter_residuals(inputs, guided=guided)
    return replace(conditions, unet_kwargs={**conditions.unet_kwargs, RESIDUALS: residuals})


def with_image_prompts(conditions: Conditions, embeds: Sequence[Tensor]) -> Conditions:
    """Return the conditions with one image prompt [r, n images, ...] per IP-Adapter in the UNet."""
    if not embeds:
        return conditions
    return replace(conditions, added={**conditions.added, "image_embeds": list(embeds)})


def _gray(image_bchw: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, device=image_bchw.device, dtype=image_bchw.dtype)
    return (image_bchw * weights.view(1, -1, 1, 1)).sum(dim=1, keepdim=True)
