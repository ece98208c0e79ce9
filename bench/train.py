"""Train a mapper for a family that ships its own training images: `pocket`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from pocket.cached import Arrays, cached_arrays
from pocket.data import UPGRADED_SET, draw_set
from pocket.models import BASE_SIZE_PX, alphas_cumprod
from pocket.train_unet import UpgradedModel, tokenize, upgraded_time_ids
from pocket.train_vae import encode
from pocket.weights import part_path, part_sha256
from xadapter.checkpoint import locked
from xadapter.data import TensorDataset, UpgradedText
from xadapter.mapper import Mapper
from xadapter.train import TrainResult, TrainSettings, train_mapper

POCKET_SETTINGS = TrainSettings(steps=3500, batch_size=16, learning_rate=1e-3)
_TEXT_BATCH = 256


def train_pocket_mapper(
    *,
    out_dir: Path,
    steps: int | None = None,
    seed: int = 0,
    settings: TrainSettings = POCKET_SETTINGS,
    n_images: int = UPGRADED_SET.n_images,
    data_dir: Path | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train a mapper between the shipped pocket models; the same command resumes it.

    Images are the upgraded model's own training scenes, drawn and encoded once into `data_dir`
    (default `out_dir/data`). Returns the averaged mapper, saved under `out_dir/mapper`.
    """
    chosen = replace(settings, steps=steps or settings.steps, seed=seed)
    base = StableDiffusionPipeline.from_pretrained(part_path("base"), dtype=torch.float32)
    upgraded = StableDiffusionXLPipeline.from_pretrained(part_path("upgraded"), dtype=torch.float32)
    with locked(out_dir):
        data = _pocket_pairs(base, upgraded, n_images, data_dir or out_dir / "data")
    torch.manual_seed(seed)
    return train_mapper(
        build_pocket_mapper(base.unet, upgraded.unet),
        base_unet=base.unet.to(memory_format=torch.channels_last),
        upgraded_unet=upgraded.unet.to(memory_format=torch.channels_last),
        upgraded_null=_null_text(upgraded),
        data=data,
        alphas_cumprod=alphas_cumprod(),
        settings=chosen,
        out_dir=out_dir,
        progress=progress,
    )


def build_pocket_mapper(base_unet: Any, upgraded_unet: Any) -> Mapper:
    """Return a new mapper whose widths follow the two UNets' block widths."""
    base, upgraded = base_unet.config.block_out_channels, upgraded_unet.config.block_out_channels
    return Mapper(
        in_channels=(base[2], base[1], base[0]),
        out_channels=(upgraded[-1], upgraded[-1], upgraded[-2]),
    )


@torch.no_grad()
def _pocket_pairs(
    base: StableDiffusionPipeline,
    upgraded: StableDiffusionXLPipeline,
    n_images: int,
    data_dir: Path,
) -> TensorDataset:
    """Encode the same images on both sides and the base model's text; cached by weights."""
    # captions name the styles, so that the base model's features separate them at any noise
    recipe = replace(UPGRADED_SET, n_images=n_images, style_words=1.0)
    pictures = draw_set(recipe, data_dir)
    key = f"{part_sha256('base')[:8]}-{part_sha256('upgraded')[:8]}-{n_images}"

    def encode_both() -> Arrays:
        small = pictures.downscaled(BASE_SIZE_PX)
        return {
            "base": encode(base.vae, small).numpy(),
            "upgraded": encode(upgraded.vae, pictures.images).numpy(),
        }

    latents = cached_arrays(data_dir / f"latents-{key}.safetensors", encode_both)
    ids = tokenize(pictures.captions)
    texts = [base.text_encoder(part).last_hidden_state for part in ids.split(_TEXT_BATCH)]
    small, large = (torch.from_numpy(latents[name]) for name in ("base", "upgraded"))
    return TensorDataset(small, large, torch.cat(texts))


@torch.no_grad()
def _null_text(upgraded: StableDiffusionXLPipeline) -> UpgradedText:
    """Encode the empty prompt with the upgraded model, with its size conditioning."""
    model = UpgradedModel(upgraded.unet, upgraded.text_encoder, upgraded.text_encoder_2)
    hidden, pooled = model.text(tokenize([""]))
    return UpgradedText(_kept(hidden), _kept(pooled), upgraded_time_ids(1))


def _kept(x: Tensor) -> Tensor:
    return x.detach().clone()
