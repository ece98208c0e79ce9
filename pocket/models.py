"""Architectures of the pocket families: Stable Diffusion layouts, small enough for two CPU cores.

The base side has SD1.5's layout (four levels, one text encoder, 64 px), the upgraded side SDXL's
(three levels, two text encoders, size conditioning, 128 px), each with its own AutoencoderKL. The
upgraded side of `pocket-v` has SD 2.1's (four levels, linear projections, predicts v, one other
text encoder, 128 px) and the base side's AutoencoderKL. That of `pocket-flow` has SD3's: a
transformer on text and picture tokens alike that predicts the velocity of flow matching, without
SD3's third text encoder, and the latents of the upgraded side's AutoencoderKL, shifted and scaled.
"""

from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pocket.tokenizer import MAX_TOKENS, build_tokenizer

BASE_SIZE_PX = 64
UPGRADED_SIZE_PX = 128
VAE_FACTOR = 8
CONTROLNET_CHANNELS = (16, 32, 64, 96)
BASE_TEXT_WIDTH = 64
UPGRADED_TEXT_WIDTH = 48
V_TEXT_WIDTH = 80
# Timesteps are shifted to high noise, in training and in sampling (SD3, arXiv 2403.03206, 5.3.2).
FLOW_SHIFT = 2.0
_FLOW_PATCH = 2
Prediction = Literal["epsilon", "v_prediction"]


def noise_schedule(prediction: Prediction = "epsilon") -> DPMSolverMultistepScheduler:
    """Return SD's scaled-linear schedule with DPM-Solver++ of order 2."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        algorithm_type="dpmsolver++",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def alphas_cumprod() -> torch.Tensor:
    """Return the cumulative signal share of each training timestep, shape 1000."""
    return noise_schedule().alphas_cumprod.clone()


def flow_schedule() -> FlowMatchEulerDiscreteScheduler:
    """Return flow matching's schedule with Euler steps on shifted noise levels."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=FLOW_SHIFT)


def build_vae(*, size_px: int) -> AutoencoderKL:
    """Build a fully convolutional f = 8 autoencoder, 4 latent channels (trainable on crops)."""
    settings: dict[str, Any] = {
        "block_out_channels": (16, 32, 64, 64),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "latent_channels": 4,
        "mid_block_add_attention": False,
        "sample_size": size_px,
        "force_upcast": False,
    }
    return AutoencoderKL(**settings)


def build_base_unet() -> UNet2DConditionModel:
    """Build SD1.5's layout at widths 48, 64, 96, 96 over 8 x 8 latents."""
    settings: dict[str, Any] = {
        "sample_size": BASE_SIZE_PX // VAE_FACTOR,
        "block_out_channels": (48, 64, 96, 96),
        "layers_per_block": 1,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "cross_attention_dim": BASE_TEXT_WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 16,
    }
    return UNet2DConditionModel(**settings)


def build_upgraded_unet() -> UNet2DConditionModel:
    """Build SDXL's layout at widths 48, 80, 128 over 16 x 16 latents."""
    settings: dict[str, Any] = {
        "sample_size": UPGRADED_SIZE_PX // VAE_FACTOR,
        "block_out_channels": (48, 80, 128),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 1, 1),
        "attention_head_dim": (1, 2, 2),
        "cross_attention_dim": 2 * UPGRADED_TEXT_WIDTH,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 16,
        "projection_class_embeddings_input_dim": UPGRADED_TEXT_WIDTH + 6 * 16,
        "norm_num_groups": 16,
    }
    return UNet2DConditionModel(**settings)


def build_v_unet() -> UNet2DConditionModel:
    """Build SD 2.1's layout at widths 32, 48, 80, 80 over 16 x 16 latents."""
    settings: dict[str, Any] = {
        "sample_size": UPGRADED_SIZE_PX // VAE_FACTOR,
        "block_out_channels": (32, 48, 80, 80),
        "layers_per_block": 1,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "cross_attention_dim": V_TEXT_WIDTH,
        "attention_head_dim": (1, 2, 2, 2),
        "use_linear_projection": True,
        "upcast_attention": True,
        "norm_num_groups": 16,
    }
    return UNet2DConditionModel(**settings)


def build_flow_transformer() -> SD3Transformer2DModel:
    """Build SD3's transformer, 4 layers of width 128, on 8 x 8 patches of 16 x 16 latents.

    Its modulations begin at zero, so that each layer begins as the identity (DiT, arXiv
    2212.09748, section 3.2).
    """
    side = UPGRADED_SIZE_PX // VAE_FACTOR
    settings: dict[str, Any] = {
        "sample_size": side,
        "patch_size": _FLOW_PATCH,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 4,
        "attention_head_dim": 32,
        "num_attention_heads": 4,
        "caption_projection_dim": 128,
        "joint_attention_dim": 2 * UPGRADED_TEXT_WIDTH,
        "pooled_projection_dim": 2 * UPGRADED_TEXT_WIDTH,
        "pos_embed_max_size": side // _FLOW_PATCH,
        "qk_norm": "rms_norm",
    }
    model = SD3Transformer2DModel(**settings)
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear) and (name.endswith(".linear") or name == "proj_out"):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
    return model


def build_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """Build a ControlNet initialized from a UNet's encoder."""
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=CONTROLNET_CHANNELS)


def build_base_text_encoder() -> CLIPTextModel:
    """Build a CLIP text model, 2 layers of width 64."""
    return CLIPTextModel(_text_config(BASE_TEXT_WIDTH, 2))


def build_upgraded_text_encoders() -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Build SDXL's pair of text encoders, 3 layers of width 48 each; the second one projects."""
    config = _text_config(UPGRADED_TEXT_WIDTH, 3)
    return CLIPTextModel(config), CLIPTextModelWithProjection(config)


def build_flow_text_encoders() -> tuple[CLIPTextModelWithProjection, CLIPTextModelWithProjection]:
    """Build SD3's pair of CLIP text encoders, 3 layers of width 48 each; both project."""
    config = _text_config(UPGRADED_TEXT_WIDTH, 3)
    return CLIPTextModelWithProjection(config), CLIPTextModelWithProjection(config)


def build_v_text_encoder() -> CLIPTextModel:
    """Build a CLIP text model of width 80 with three layers.

    As in SD 2.1, the UNet reads the layer before the last one after the final norm, and the last
    layer, which nothing would train, is left out of the model.
    """
    return CLIPTextModel(_text_config(V_TEXT_WIDTH, 3, activation="gelu"))


def _text_config(width: int, n_layers: int, *, activation: str = "quick_gelu") -> CLIPTextConfig:
    tokenizer: Any = build_tokenizer()
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        hidden_act=activation,
        projection_dim=width,
        attention_dropout=0.0,
    )
