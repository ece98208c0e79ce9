"""Train a pocket autoencoder: L1 + L2, weighted at edges, with latents pulled to unit variance."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pocket.data import to_unit
from pocket.fit import LossFunction

LATENT_NOISE = 0.05  # fixed posterior noise: keeps the decoder smooth without a KL term
POSTERIOR_LOGVAR = 2 * math.log(LATENT_NOISE)
CROP_PX = 64


def vae_loss(vae: Any, images: np.ndarray) -> LossFunction:
    """Return the reconstruction loss over random 64 px crops (no crop of 64 px pictures)."""

    def loss_at(batch_size: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(images), (batch_size,), generator=generator)
        x = to_unit(_crops(images[index.numpy()], generator))
        mean = vae.encode(x).latent_dist.mean
        noise = torch.randn(mean.shape, generator=generator)
        y = vae.decode(mean + LATENT_NOISE * noise).sample
        return _weighted_error(x, y) + 1e-2 * _spread_penalty(mean)

    return loss_at


def fix_posterior(vae: Any) -> None:
    """Set the posterior's deviation to the constant used in training."""
    conv, n = vae.quant_conv, vae.config["latent_channels"]
    with torch.no_grad():
        conv.weight[n:].zero_()
        conv.bias[n:].fill_(POSTERIOR_LOGVAR)


@torch.no_grad()
def set_scaling_factor(vae: Any, images: np.ndarray) -> float:
    """Store 1 / standard deviation of the latents in the config and return it."""
    latents = torch.cat([vae.encode(to_unit(x)).latent_dist.mean for x in np.split(images, 16)])
    factor = round(1 / latents.std().item(), 5)
    vae.register_to_config(scaling_factor=factor)
    return factor


@torch.no_grad()
def set_shift_factor(vae: Any, images: np.ndarray) -> None:
    """Store the latents' mean and 1 / standard deviation in the config, as SD3's VAE has them."""
    latents = torch.cat([vae.encode(to_unit(x)).latent_dist.mean for x in np.split(images, 16)])
    shift, factor = round(latents.mean().item(), 5), round(1 / latents.std().item(), 5)
    vae.register_to_config(shift_factor=shift, scaling_factor=factor)


@torch.no_grad()
def encode(vae: Any, images: np.ndarray, *, batch_size: int = 32) -> Tensor:
    """Return scaled latents (posterior means) of uint8 images, N x 4 x H/8 x W/8."""
    parts = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
    means = [vae.encode(to_unit(part)).latent_dist.mean for part in parts]
    return (torch.cat(means) - (vae.config["shift_factor"] or 0.0)) * vae.config["scaling_factor"]


def _crops(images: np.ndarray, generator: torch.Generator) -> np.ndarray:
    side = images.shape[1]
    if side == CROP_PX:
        return images
    corners = torch.randint(side - CROP_PX + 1, (len(images), 2), generator=generator).tolist()
    cut = [im[y : y + CROP_PX, x : x + CROP_PX] for im, (y, x) in zip(images, corners, strict=True)]
    return np.stack(cut)


def _weighted_error(x: Tensor, y: Tensor) -> Tensor:
    local = F.avg_pool2d(x, 5, 1, 2, count_include_pad=False)
    contrast = (x - local).abs().amax(1, keepdim=True)
    weight = 1 + 4 * (F.max_pool2d(contrast, 3, 1, 1) > 0.1).float()
    distance = (y - x).abs()
    return (weight * distance).mean() + 2 * (weight * distance.square()).mean()


def _spread_penalty(mean: Tensor) -> Tensor:
    centers = mean.mean((0, 2, 3)).square().sum()
    return centers + (mean.var((0, 2, 3)) - 1).square().sum()
