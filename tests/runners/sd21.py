"""A tiny model in the layout of SD 2.1: one text encoder, linear projections, v-prediction."""

from __future__ import annotations

from typing import Any, Literal

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from pocket import models
from pocket.tokenizer import build_tokenizer

Prediction = Literal["epsilon", "v_prediction"]


def schedule(prediction: Prediction) -> DPMSolverMultistepScheduler:
    """Return the pocket schedule for a model that predicts epsilon or v."""
    config = dict(models.noise_schedule().config)
    return DPMSolverMultistepScheduler.from_config(config, prediction_type=prediction)


def sd21_pipeline(*, seed: int, prediction: Prediction = "v_prediction") -> StableDiffusionPipeline:
    """Return a StableDiffusionPipeline at 128 px with random weights."""
    settings: dict[str, Any] = {
        "sample_size": 16,
        "block_out_channels": (32, 48, 64, 64),
        "layers_per_block": 1,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "cross_attention_dim": models.UPGRADED_TEXT_WIDTH,
        "attention_head_dim": (1, 2, 4, 4),
        "use_linear_projection": True,
        "norm_num_groups": 16,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts: dict[str, Any] = {
            "vae": models.build_vae(size_px=128),
            "text_encoder": models.build_upgraded_text_encoders()[0],
            "tokenizer": build_tokenizer(),
            "unet": UNet2DConditionModel(**settings),
            "scheduler": schedule(prediction),
            "safety_checker": None,
            "feature_extractor": None,
        }
    return StableDiffusionPipeline(**parts, requires_safety_checker=False)
