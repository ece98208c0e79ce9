"""Pocket models with random weights, saved and loaded in the layout of the trained ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file
from torch import Tensor, nn

from pocket import models
from pocket.tokenizer import build_tokenizer
from runners.base import PluginFile, RenderCase, RenderSettings, Variant
from runners.families.family import Family, load_from_folders
from runners.methods.base import BaseModel
from runners.methods.delta import Delta
from runners.methods.floor import Floor, Oracle
from runners.methods.hires import Hires
from runners.methods.sdedit import SDEdit
from runners.methods.x_adapter import Swapped, Truncated, Unplugged, XAdapterMethod
from runners.protocols import Method
from tests.runners.kohya import kohya_table
from xadapter.mapper import Mapper
from xadapter.sites import injected_names, site_shapes, tapped_names

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *(BaseModel(), Floor(), Hires(), Oracle(), SDEdit(), XAdapterMethod()),
        *(Delta(), Swapped(), Truncated(), Unplugged()),
    )
}
PROMPTS = (
    "a large red circle on a white background",
    "a small blue square on a gray background",
    "a large green triangle",
    "a small yellow star on a black background",
)
SETTINGS = RenderSettings(
    base_size_px=(64, 64), upgraded_size_px=(128, 128), steps=3, guidance_scale=3.0
)
RANK = 2


def randomized(module: nn.Module, seed: int) -> nn.Module:
    """Fill zero-initialized tensors too, so that every path matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            if not weight.any():
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    return module


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with base/, upgraded/, mapper/, controlnet/ and lora.safetensors."""
    root = tmp_path_factory.mktemp("pocket")
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        base = StableDiffusionPipeline(
            vae=models.build_vae(size_px=64),
            text_encoder=models.build_base_text_encoder(),
            tokenizer=build_tokenizer(),
            unet=models.build_base_unet(),
            scheduler=models.noise_schedule(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        encoders = models.build_upgraded_text_encoders()
        upgraded = StableDiffusionXLPipeline(
            vae=models.build_vae(size_px=128),
            text_encoder=encoders[0],
            text_encoder_2=encoders[1],
            tokenizer=build_tokenizer(),
            tokenizer_2=build_tokenizer(),
            unet=models.build_upgraded_unet(),
            scheduler=models.noise_schedule(),
            add_watermarker=False,
        )
        base.save_pretrained(root / "base")
        upgraded.save_pretrained(root / "upgraded")
        randomized(mapper_between(base.unet, upgraded.unet), 1).save_pretrained(root / "mapper")
        controlnet = randomized(models.build_controlnet(base.unet), 2)
        controlnet.save_pretrained(root / "controlnet")
    table = kohya_table(base.unet, base.text_encoder)
    save_file(lora_for(table, list(table)), root / "lora.safetensors")
    return root


def mapper_between(base_unet: nn.Module, upgraded_unet: nn.Module) -> Mapper:
    """Return a new mapper of the widths that two UNets have at their sites."""
    taken = site_shapes(base_unet, tapped_names(base_unet), latent_side=(16, 16))
    given = site_shapes(upgraded_unet, injected_names(upgraded_unet), latent_side=(32, 32))
    return Mapper(in_channels=taken.channels, out_channels=given.channels)


def lora_for(table: dict[str, nn.Parameter], names: Sequence[str]) -> dict[str, Tensor]:
    """Random kohya factors, alpha 1.5, for some modules of the base side."""
    generator = torch.Generator().manual_seed(3)
    lora = {}
    for name in names:
        shape = table[name].shape
        down, up = (RANK, *shape[1:]), (shape[0], RANK, *(1,) * (len(shape) - 2))
        lora[f"{name}.lora_down.weight"] = 0.2 * torch.randn(down, generator=generator)
        lora[f"{name}.lora_up.weight"] = 0.2 * torch.randn(up, generator=generator)
        lora[f"{name}.alpha"] = torch.tensor(1.5)
    return lora


@pytest.fixture(scope="session")
def family(folders: Path) -> Family:
    return load_from_folders(
        "pocket",
        base=folders / "base",
        upgraded=folders / "upgraded",
        mapper=folders / "mapper",
        device="cpu",
        dtype="float32",
    )


@pytest.fixture
def lora(folders: Path) -> PluginFile:
    return PluginFile("random-lora", "lora", folders / "lora.safetensors")


@pytest.fixture
def controlnet(folders: Path) -> PluginFile:
    return PluginFile("random-net", "controlnet", folders / "controlnet", condition="canny")


@pytest.fixture
def cases() -> list[RenderCase]:
    rng = np.random.default_rng(0)
    return [
        RenderCase(
            case_id=f"case-{i}",
            seed=i % 2,
            base_prompt=f"{prompt} outline drawing",
            upgraded_prompt=prompt,
            negative_prompt="a blue star" if i == 1 else "",
            condition=rng.integers(0, 256, (64, 64, 3), dtype=np.uint8),
        )
        for i, prompt in enumerate(PROMPTS)
    ]


@pytest.fixture
def sweep() -> list[Variant]:
    """Every method, two t0 values."""
    return [
        Variant("base"),
        *(Variant("sdedit", t0=t0) for t0 in (0.7, 1.0)),
        *(Variant("xadapter", t0=t0, adapter_scale=1.0) for t0 in (0.7, 1.0)),
    ]
