"""Fine-tunes of the pocket base: the same layout, other weights, stored as what differs.

`near` is a short fine-tune on slightly other pictures, `far` a long one at the rate of the base's
own training, on pictures of one style that the base rarely saw. A file holds the trained tensors
alone (float16), named `MODEL.PARAMETER`; all others are those of the shipped base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel

from plugins_manifest.files import replacing
from pocket import weights
from pocket.cached import cached_arrays
from pocket.data import FAR_SET, NEAR_SET, SetRecipe, draw_set
from pocket.fit import FitSettings, fit
from pocket.train_unet import BaseModel, Latents, noise_loss, tokenize
from pocket.train_vae import encode

_TRANSFORMERS = "unet.*attentions.*"
# encoder and middle convolutions; the decoder's are 40 % of all weights, and stay
_ENCODER = ("unet.down_blocks.*", "unet.mid_block.*", "unet.conv_in.*", "text_encoder.*")


@dataclass(frozen=True)
class Finetune:
    """A fine-tune: the patterns of the trained parameters, its training set and settings."""

    trained: tuple[str, ...]
    data: SetRecipe
    settings: FitSettings


FINETUNES: Mapping[str, Finetune] = {
    "near": Finetune(
        (_TRANSFORMERS,), NEAR_SET, FitSettings(300, 32, 2e-4, seed=21, ema_decay=0.99)
    ),
    "far": Finetune(
        (_TRANSFORMERS, *_ENCODER),
        FAR_SET,
        FitSettings(500, 32, 2e-3, seed=22, ema_decay=0.99, schedule_steps=1200),
    ),
}


def train_finetune(name: str, work: Path, *, null_share: float) -> float:
    """Fine-tune the shipped base; return the mean loss of the last tenth of steps."""
    recipe = FINETUNES[name]
    torch.manual_seed(recipe.settings.seed)
    model = load_shipped_base()
    trained = trainable(model, recipe.trained)
    model.to(memory_format=torch.channels_last)
    loss_at = noise_loss(model, base_latents(recipe.data, work), null_share=null_share)
    out_dir = work / f"base-{name}"
    loss = fit(model, loss_at, settings=recipe.settings, out_dir=out_dir)
    state = {
        key.replace(".text_model.", "."): value.detach().half().contiguous()
        for key, value in trained.items()
    }
    with replacing(out_dir / "final.safetensors") as draft:
        save_file(state, draft)
    return loss


def load_shipped_base() -> BaseModel:
    """Load the shipped base UNet and text encoder in float32."""
    folder = weights.part_path("base")
    return BaseModel(
        UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.float32),
        CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32),
    )


def trainable(model: nn.Module, patterns: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """Freeze all parameters but those whose names match a pattern, and return these."""
    found = dict(model.named_parameters())
    for name, parameter in found.items():
        parameter.requires_grad_(any(fnmatch(name, pattern) for pattern in patterns))
    return {name: parameter for name, parameter in found.items() if parameter.requires_grad}


def base_latents(recipe: SetRecipe, work: Path) -> Latents:
    """Encode a training set by the shipped base VAE, once per work folder."""
    pictures = draw_set(recipe, work / "data")
    path = work / "data" / f"z-{recipe.name}.safetensors"

    def make() -> dict[str, Any]:
        vae = AutoencoderKL.from_pretrained(weights.part_path("base") / "vae", dtype=torch.float32)
        return {"z": encode(vae.eval().requires_grad_(False), pictures.images).numpy()}

    z_nchw = torch.from_numpy(cached_arrays(path, make)["z"])
    return Latents(z_nchw, tokenize(pictures.captions))
