"""Assemble trained parts into stock diffusers pipelines (float16) and record their hashes."""

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from plugins_manifest.files import replacing
from pocket import weights
from pocket.models import noise_schedule
from pocket.tokenizer import build_tokenizer

CONTROLNETS = (
    *("controlnet-canny", "controlnet-mask"),
    *("upgraded-controlnet-canny", "upgraded-controlnet-mask"),
)
FILES = (  # safetensors, shipped as they are
    *("lora-outline", "lora-hatched", "upgraded-lora-outline", "upgraded-lora-hatched"),
    *("base-near", "base-far"),
)


def base_pipeline(work: Path) -> StableDiffusionPipeline:
    """Load the trained base model as a stock Stable Diffusion pipeline."""
    final = work / "base" / "final"
    parts: dict[str, Any] = dict(
        vae=AutoencoderKL.from_pretrained(work / "vae-base" / "final"),
        text_encoder=CLIPTextModel.from_pretrained(final / "text_encoder"),
        tokenizer=build_tokenizer(),
        unet=UNet2DConditionModel.from_pretrained(final / "unet"),
        scheduler=noise_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return StableDiffusionPipeline(**parts)


def upgraded_pipeline(work: Path) -> StableDiffusionXLPipeline:
    """Load the trained upgraded model as a stock Stable Diffusion XL pipeline."""
    final = work / "upgraded" / "final"
    parts: dict[str, Any] = dict(
        vae=AutoencoderKL.from_pretrained(work / "vae-upgraded" / "final"),
        text_encoder=CLIPTextModel.from_pretrained(final / "text_encoder"),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(final / "text_encoder_2"),
        tokenizer=build_tokenizer(),
        tokenizer_2=build_tokenizer(),
        unet=UNet2DConditionModel.from_pretrained(final / "unet"),
        scheduler=noise_schedule(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    return StableDiffusionXLPipeline(**parts)


def assemble(work: Path) -> dict[str, str]:
    """Write the trained parts into `pocket/weights`; return the recorded hashes."""
    for name, build in (("base", base_pipeline), ("upgraded", upgraded_pipeline)):
        if (work / name / "final").exists():
            _save_pipeline(build(work), weights.FOLDER / name)
    for name in CONTROLNETS:
        if (source := work / name / "final").exists():
            network = ControlNetModel.from_pretrained(source).half()
            with replacing(weights.FOLDER / name) as folder:
                network.save_pretrained(folder)
    for name in FILES:
        if (source := work / name / "final.safetensors").exists():
            with replacing(weights.FOLDER / f"{name}.safetensors") as draft:
                shutil.copyfile(source, draft)
    if (work / "scorer" / "final").exists():
        with replacing(weights.FOLDER / "scorer") as folder:
            shutil.copytree(work / "scorer" / "final", folder)
    return weights.record_hashes()


def _save_pipeline(pipeline: DiffusionPipeline, folder: Path) -> None:
    with replacing(folder) as draft:
        pipeline.to(dtype=torch.float16).save_pretrained(draft)
