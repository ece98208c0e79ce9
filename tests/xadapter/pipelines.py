"""Tiny pipelines with real tokenizers and text encoders, and solvers of every kind."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UniPCMultistepScheduler,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from tests.xadapter.conftest import BASE_TEXT_WIDTH, POOLED_WIDTH
from tests.xadapter.worlds import quiet

LETTERS = "abcdefghijklmnopqrstuvwxyz"
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def tokenizer() -> CLIPTokenizer:
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokens = [start, end, *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[],
        bos_token=start,
        eos_token=end,
        pad_token=end,
        unk_token=end,
        model_max_length=8,
    )


def text_encoder(width: int, seed: int, *, projection: int | None = None) -> Any:
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=54,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        projection_dim=projection or 4,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    kind = CLIPTextModel if projection is None else CLIPTextModelWithProjection
    return kind(config).eval()


def tiny_base_pipe(models: Any, **options: Any) -> Any:
    return quiet(
        StableDiffusionPipeline(
            vae=models.base_vae,
            text_encoder=text_encoder(BASE_TEXT_WIDTH, 11),
            tokenizer=tokenizer(),
            unet=models.base_unet,
            scheduler=PNDMScheduler(**BETAS, **options, skip_prk_steps=True, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def tiny_upgraded_pipe(models: Any) -> Any:
    return quiet(
        StableDiffusionXLPipeline(
            vae=models.upgraded_vae,
            text_encoder=text_encoder(4, 12),
            text_encoder_2=text_encoder(8, 13, projection=POOLED_WIDTH),
            tokenizer=tokenizer(),
            tokenizer_2=tokenizer(),
            unet=models.upgraded_unet,
            scheduler=EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
        )
    )


SOLVERS = {
    "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "dpm++ karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler ancestral": (EulerAncestralDiscreteScheduler, {}),
    "euler karras": (EulerDiscreteScheduler, {"use_karras_sigmas": True}),
    "heun": (HeunDiscreteScheduler, {}),
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "unipc": (UniPCMultistepScheduler, {"solver_order": 3}),
    "deis": (DEISMultistepScheduler, {}),
}


def new_solver(kind: str) -> Any:
    solver_class, options = SOLVERS[kind]
    return solver_class(**BETAS, timestep_spacing="leading", steps_offset=1, **options)


def with_scheduler(pipe: Any, scheduler: Any) -> Any:
    return quiet(type(pipe)(**pipe.components | {"scheduler": scheduler}))
