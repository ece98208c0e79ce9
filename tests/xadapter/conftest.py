"""Tiny random models in the real layouts, made from a seed; no downloads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

from xadapter.mapper import Mapper

BASE_TEXT_WIDTH, UPGRADED_TEXT_WIDTH, POOLED_WIDTH = 8, 12, 10
N_TOKENS = 7


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base_unet() -> Any:
    return tiny_base_unet()


def tiny_base_unet() -> Any:
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=(4, 8, 12, 12),
        layers_per_block=1,
        cross_attention_dim=BASE_TEXT_WIDTH,
        attention_head_dim=2,
        norm_num_groups=2,
    )
    return unet.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def upgraded_unet() -> Any:
    return tiny_upgraded_unet()


def tiny_upgraded_unet() -> Any:
    torch.manual_seed(2)
    unet = UNet2DConditionModel(
        sample_size=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(4, 8, 16),
        layers_per_block=1,
        cross_attention_dim=UPGRADED_TEXT_WIDTH,
        attention_head_dim=(2, 2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=POOLED_WIDTH + 6 * 4,
        norm_num_groups=2,
    )
    return unet.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def base_vae() -> Any:
    return tiny_vae(3, 0.18215)


@pytest.fixture(scope="session")
def upgraded_vae() -> Any:
    return tiny_vae(4, 0.13025)


def tiny_vae(seed: int, scaling_factor: float) -> Any:
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        sample_size=16,
        scaling_factor=scaling_factor,
    )
    return vae.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def controlnets(base_unet: Any) -> list[Any]:
    nets = []
    for seed in (5, 6):
        torch.manual_seed(seed)
        net = ControlNetModel.from_unet(
            base_unet, conditioning_channels=3, load_weights_from_unet=False
        )
        net.controlnet_cond_embedding = type(net.controlnet_cond_embedding)(
            conditioning_embedding_channels=4, block_out_channels=(4, 8)
        )
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        nets.append(net.eval().requires_grad_(False))
    return nets


def seed_weights(mapper: Mapper, generator: torch.Generator) -> None:
    """Draw the weights of a new mapper from `generator` (torch's default law), zeros at the end."""
    for name, weight in mapper.named_parameters():
        if name.startswith("zero_out"):
            torch.nn.init.zeros_(weight)
            continue
        owner = mapper.get_submodule(name.rpartition(".")[0])
        assert isinstance(owner, (torch.nn.Conv2d, torch.nn.ConvTranspose2d))
        fan_in = owner.weight.shape[1] * owner.weight[0, 0].numel()
        bound = 1.0 / math.sqrt(fan_in)
        torch.nn.init.uniform_(weight, -bound, bound, generator=generator)


def new_mapper(seed: int = 7, *, zero: bool = False) -> Mapper:
    mapper = Mapper(in_channels=(12, 8, 4), out_channels=(16, 16, 8), n_blocks=2)
    generator = torch.Generator().manual_seed(seed)
    seed_weights(mapper, generator)
    if not zero:
        for conv in mapper.zero_out:
            torch.nn.init.normal_(conv.weight, std=0.5, generator=generator)
    return mapper.eval().requires_grad_(False)


@pytest.fixture
def mapper() -> Mapper:
    return new_mapper()


@pytest.fixture
def zero_mapper() -> Mapper:
    return new_mapper(zero=True)


@dataclass(frozen=True)
class Models:
    """All tiny models."""

    base_unet: Any
    upgraded_unet: Any
    base_vae: Any
    upgraded_vae: Any


@pytest.fixture(scope="session")
def models(base_unet: Any, upgraded_unet: Any, base_vae: Any, upgraded_vae: Any) -> Models:
    return Models(base_unet, upgraded_unet, base_vae, upgraded_vae)


@pytest.fixture(scope="session")
def base_pipe(models: Models) -> Any:
    from tests.xadapter.pipelines import tiny_base_pipe

    return tiny_base_pipe(models)


@pytest.fixture(scope="session")
def upgraded_pipe(models: Models) -> Any:
    from tests.xadapter.pipelines import tiny_upgraded_pipe

    return tiny_upgraded_pipe(models)
