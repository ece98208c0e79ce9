"""Models in the layouts of SD1.5, SDXL and the released mapper, with random weights.

They are built on the meta device and filled where they run: nothing is read or downloaded. `small`
keeps every layout and reduces widths and depth, for a CPU.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeVar

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pocket.tokenizer import build_tokenizer
from runners.families import Family
from runners.families.family import DTYPES, make_family, place
from runners.families.unet_configs import UNETS
from xadapter.mapper import Mapper

Name = Literal["sd15", "sdxl"]
Model = TypeVar("Model", bound=nn.Module)
MAX_TOKENS, VOCABULARY = 77, 49408
SMALL_UNETS: dict[Name, dict[str, Any]] = {
    "sd15": {"block_out_channels": (32, 64, 128, 128), "cross_attention_dim": 32},
    "sdxl": {
        "block_out_channels": (32, 64, 128),
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (1, 2, 4),
        "cross_attention_dim": 64,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 32,
    },
}
# not in a ControlNet's config
_DECODER_ONLY = ("sample_size", "up_block_types")


def unet_of(name: Name, *, small: bool = False) -> UNet2DConditionModel:
    """Build the UNet of Stable Diffusion 1.5 or SDXL, as in their config.json."""
    return UNet2DConditionModel(**_unet_config(name, small=small))


def controlnet_of(*, small: bool = False) -> ControlNetModel:
    """Build a ControlNet of Stable Diffusion 1.5."""
    config = _unet_config("sd15", small=small)
    return ControlNetModel(**{k: v for k, v in config.items() if k not in _DECODER_ONLY})


def vae_of(name: Name, *, small: bool = False) -> AutoencoderKL:
    """Build the autoencoder; SDXL's as in the version that is safe in half precision."""
    settings: dict[str, Any] = {
        "block_out_channels": (32, 32, 64, 64) if small else (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 512,
        "scaling_factor": 0.13025 if name == "sdxl" else 0.18215,
        "force_upcast": False,
    }
    return AutoencoderKL(**settings)


def text_encoder_of(*, is_large: bool, small: bool = False) -> nn.Module:
    """Build CLIP ViT-L's text model, or OpenCLIP bigG's with its projection."""
    tokenizer: Any = build_tokenizer()
    width, n_layers, n_heads = (1280, 32, 20) if is_large else (768, 12, 12)
    if small:
        width, n_layers, n_heads = 32, 2, 2
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        projection_dim=width,
        max_position_embeddings=MAX_TOKENS,
        hidden_act="gelu" if is_large else "quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection(config) if is_large else CLIPTextModel(config)


def mapper_of(*, small: bool = False) -> Mapper:
    """Build a mapper in the layout of the released one."""
    return Mapper((128, 64, 32), (128, 128, 64)) if small else Mapper()


def drawn(name: str, like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return bfloat16 weights of the shape of `like`: norm scales 1, biases 0, noise elsewhere.

    The noise has deviation 1 / sqrt(fan-in), so a layer preserves the variance of its input.
    """
    device = generator.device
    value = torch.empty(like.shape, dtype=torch.bfloat16, device=device)
    if like.ndim < 2:
        return value.fill_(0.0 if name.endswith("bias") else 1.0)
    return value.normal_(0.0, 1 / math.sqrt(math.prod(like.shape[1:])), generator=generator)


def filled(model: Model, *, device: str, dtype: str, seed: int) -> Model:
    """Move a model from the meta device to a real one, with random weights, frozen."""
    generator = torch.Generator(device).manual_seed(seed)
    target = DTYPES[dtype]
    with torch.no_grad():
        state = {
            name: drawn(name, value, generator).to(target)
            for name, value in model.state_dict().items()
        }
        model.load_state_dict(state, assign=True)
        for module in model.modules():
            # CLIP's positions are a buffer that no file holds
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_meta:
                    positions = torch.arange(buffer.numel(), device=device).view(buffer.shape)
                    module.register_buffer(name, positions, persistent=False)
    return place(model, device=device, dtype=dtype)


def random_family(*, small: bool, device: str, dtype: str) -> Family:
    """Return SD1.5, SDXL and a mapper of real or small size, with random weights."""
    with torch.device("meta"):
        unets = [unet_of(name, small=small) for name in ("sd15", "sdxl")]
        vaes = [vae_of(name, small=small) for name in ("sd15", "sdxl")]
        texts = [text_encoder_of(is_large=large, small=small) for large in (False, False, True)]
        mapper = mapper_of(small=small)
    models: list[nn.Module] = [*unets, *vaes, *texts, mapper]
    for seed, model in enumerate(models):
        filled(model, device=device, dtype=dtype, seed=seed)
    tokenizer: Any = build_tokenizer()
    tokenizer.model_max_length = MAX_TOKENS
    parts: Any = [
        {"unet": unets[0], "vae": vaes[0], "text_encoder": texts[0]},
        {"unet": unets[1], "vae": vaes[1], "text_encoder": texts[1], "text_encoder_2": texts[2]},
    ]
    for part in parts:
        part |= {"tokenizer": tokenizer, "scheduler": _scheduler()}
    unused: Any = {"safety_checker": None, "feature_extractor": None}
    base = StableDiffusionPipeline(**parts[0], **unused, requires_safety_checker=False)
    upgraded = StableDiffusionXLPipeline(**parts[1], tokenizer_2=tokenizer)
    return make_family("random", base, upgraded, mapper, device=device, dtype=dtype)


def random_controlnet(*, small: bool, device: str, dtype: str) -> ControlNetModel:
    """Return a ControlNet of SD1.5 with random weights."""
    with torch.device("meta"):
        net = controlnet_of(small=small)
    return filled(net, device=device, dtype=dtype, seed=99)


def _unet_config(name: Name, *, small: bool) -> dict[str, Any]:
    return {**UNETS[name], **(SMALL_UNETS[name] if small else {})}


def _scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="leading",
        steps_offset=1,
    )
