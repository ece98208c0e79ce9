"""Assemble trained parts into stock diffusers pipelines (float16) and record their hashes."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DiffusionPipeline,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from plugins_manifest.files import replacing
from pocket import weights
from pocket.flow import load_flow_vae
from pocket.models import flow_schedule, noise_schedule
from pocket.recipes import load_vae
from pocket.tokenizer import build_tokenizer

CONTROLNETS = (
    *("controlnet-canny", "controlnet-mask"),
    *("upgraded-controlnet-canny", "upgraded-controlnet-mask"),
    "upgraded-v-controlnet-canny",
)
_VAE_WEIGHTS = "vae/diffusion_pytorch_model.safetensors"
FILES = (  # safetensors, shipped as they are
    "flow-lora-outline",
    *("lora-outline", "lora-hatched", "upgraded-lora-outline", "upgraded-lora-hatched"),
    "upgraded-v-lora-outline",
    *("base-near", "base-far"),
    *("converted-lora-outline", "converted-lora-hatched"),
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


def v_pipeline(work: Path) -> StableDiffusionPipeline:
    """Load SD 2.1's kind of model as a stock pipeline, with the shipped base model's VAE."""
    final = work / "upgraded-v" / "final"
    parts: dict[str, Any] = dict(
        vae=load_vae("upgraded-v", work),
        text_encoder=CLIPTextModel.from_pretrained(final / "text_encoder"),
        tokenizer=build_tokenizer(),
        unet=UNet2DConditionModel.from_pretrained(final / "unet"),
        scheduler=noise_schedule("v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return StableDiffusionPipeline(**parts)


def flow_pipeline(work: Path) -> StableDiffusion3Pipeline:
    """Load the flow model as a stock pipeline without T5, with the shipped upgraded model's VAE."""
    final = work / "flow" / "final"
    parts: dict[str, Any] = dict(
        vae=load_flow_vae(work),
        text_encoder=CLIPTextModelWithProjection.from_pretrained(final / "text_encoder"),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(final / "text_encoder_2"),
        text_encoder_3=None,
        tokenizer=build_tokenizer(),
        tokenizer_2=build_tokenizer(),
        tokenizer_3=None,
        transformer=SD3Transformer2DModel.from_pretrained(final / "transformer"),
        scheduler=flow_schedule(),
    )
    return StableDiffusion3Pipeline(**parts)


def assemble(work: Path) -> dict[str, str]:
    """Write the trained parts into `pocket/weights`; return the recorded hashes."""
    for name, build in (("base", base_pipeline), ("upgraded", upgraded_pipeline)):
        if (work / name / "final").exists():
            _save_pipeline(build(work), weights.FOLDER / name)
    if (work / "upgraded-v" / "final").exists():  # after the base model, whose VAE it has
        _save_pipeline(v_pipeline(work), weights.FOLDER / "upgraded-v", without=("vae",))
    if (work / "flow" / "final").exists():
        # the shift and scale of its latents are its own, in the VAE's configuration
        _save_pipeline(flow_pipeline(work), weights.FOLDER / "flow", without=(_VAE_WEIGHTS,))
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


def _save_pipeline(
    pipeline: DiffusionPipeline, folder: Path, *, without: tuple[str, ...] = ()
) -> None:
    """Write a pipeline in float16; parts that another folder has already are left out."""
    with replacing(folder) as draft:
        pipeline.to(dtype=torch.float16).save_pretrained(draft)
        for name in without:
            remove = shutil.rmtree if (draft / name).is_dir() else os.remove
            remove(draft / name)
