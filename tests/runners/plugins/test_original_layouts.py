"""Files in the layout of the first authors of ControlNet and T2I-Adapter load key by key."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from plugins_manifest.errors import UserError
from plugins_manifest.formats.side_files import NETWORK_NAMES
from runners.base import PluginFile
from runners.families.family import Family
from runners.plugins.controlnet import ControlNetPlugin, load_controlnet
from runners.plugins.ldm_names import LDM_PREFIX, controlnet_name
from runners.plugins.t2i_adapter import load_t2i
from tests.runners.conftest import randomized
from tests.runners.kinds import assert_close, drawn, save_t2i


def in_ldm_names(net: ControlNetModel) -> dict[str, Tensor]:
    hint: Any = net.controlnet_cond_embedding
    return {
        LDM_PREFIX
        + controlnet_name(
            key, layers_per_block=net.config["layers_per_block"], n_hint_blocks=len(hint.blocks)
        ): value.contiguous()
        for key, value in net.state_dict().items()
    }


def sd15_sized_names() -> ControlNetModel:
    """SD1.5's layout (12 input blocks, 7 hint levels) at a thirtieth of the width."""
    settings: dict[str, Any] = {
        "block_out_channels": (8, 16, 24, 24),
        "layers_per_block": 2,
        "cross_attention_dim": 8,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        "conditioning_embedding_out_channels": (4, 8, 12, 16),
    }
    net = ControlNetModel(**settings)
    randomized(net, 8)
    return net


def test_our_names_are_those_that_diffusers_converts() -> None:
    net = sd15_sized_names()
    original = in_ldm_names(net)
    theirs = convert_controlnet_checkpoint(dict(original), config=net.config)
    ours = net.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[key], value) for key, value in ours.items())


def test_names_of_the_released_files() -> None:
    """As in control_v11p_sd15_canny.pth."""
    for ours, theirs in {
        "time_embedding.linear_2.bias": "time_embed.2.bias",
        "conv_in.weight": "input_blocks.0.0.weight",
        "down_blocks.0.downsamplers.0.conv.weight": "input_blocks.3.0.op.weight",
        "down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k.weight": (
            "input_blocks.5.1.transformer_blocks.0.attn2.to_k.weight"
        ),
        "down_blocks.3.resnets.1.conv_shortcut.weight": "input_blocks.11.0.skip_connection.weight",
        "mid_block.resnets.1.time_emb_proj.bias": "middle_block.2.emb_layers.1.bias",
        "controlnet_cond_embedding.conv_out.weight": "input_hint_block.14.weight",
        "controlnet_cond_embedding.blocks.5.bias": "input_hint_block.12.bias",
        "controlnet_down_blocks.11.weight": "zero_convs.11.0.weight",
        "controlnet_mid_block.bias": "middle_block_out.0.bias",
    }.items():
        assert controlnet_name(ours, layers_per_block=2, n_hint_blocks=6) == theirs


@pytest.mark.parametrize("layout", ["diffusers", "ldm", "ldm without prefix", "with config"])
def test_a_single_file_loads_the_same_controlnet(
    family: Family, controlnet: PluginFile, tmp_path: Path, layout: str
) -> None:
    net = ControlNetModel.from_pretrained(controlnet.path)
    state = {key: value.contiguous() for key, value in net.state_dict().items()}
    if layout.startswith("ldm"):
        prefix = "" if "without" in layout else LDM_PREFIX
        state = {prefix + k.removeprefix(LDM_PREFIX): v for k, v in in_ldm_names(net).items()}
    if layout == "with config":
        (tmp_path / "canny.json").write_text((controlnet.path / "config.json").read_text())
    save_file(state, tmp_path / "canny.safetensors")
    plugin = load_controlnet(replace(controlnet, path=tmp_path / "canny.safetensors"), family)
    loaded = plugin.net.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in net.state_dict().items())
    assert plugin.audit.is_complete


def test_a_half_precision_folder_loads(
    family: Family, controlnet: PluginFile, tmp_path: Path
) -> None:
    net = ControlNetModel.from_pretrained(controlnet.path)
    net.save_pretrained(tmp_path, variant="fp16")
    assert isinstance(load_controlnet(replace(controlnet, path=tmp_path), family), ControlNetPlugin)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("lllite_unet_input_blocks_1_1.down.0.weight", "ControlLLLite"),
        ("lora_controlnet", "Control-LoRA"),
        ("difference", "difference ControlNet"),
    ],
)
def test_what_only_looks_like_a_controlnet_is_named(
    family: Family, controlnet: PluginFile, tmp_path: Path, key: str, told: str
) -> None:
    state = {**load_file(controlnet.path / NETWORK_NAMES[0]), key: torch.zeros(1)}
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=told):
        load_controlnet(replace(controlnet, path=tmp_path / "x.safetensors"), family)


def test_a_controlnet_of_the_upgraded_side_fits_the_upgraded_model(
    family: Family, controlnet: PluginFile, tmp_path: Path
) -> None:
    net: Any = ControlNetModel.from_unet(
        family.upgraded.unet, conditioning_embedding_out_channels=(8, 16, 24, 32)
    )
    randomized(net, 3).save_pretrained(tmp_path)
    plugin = replace(controlnet, path=tmp_path, side="upgraded")
    assert load_controlnet(plugin, family).audit.is_complete
    with pytest.raises(UserError, match="is not made for the base model"):
        load_controlnet(replace(plugin, side="base"), family)


class OriginalBlock(nn.Module):
    """A residual block as its first authors name it."""

    def __init__(self, taken: int, given: int, *, down: bool, kernel: int) -> None:
        super().__init__()
        self.down = down
        if taken != given:
            self.in_conv = nn.Conv2d(taken, given, 1)
        self.block1 = nn.Conv2d(given, given, 3, padding=1)
        self.block2 = nn.Conv2d(given, given, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 2) if self.down else x
        x = self.in_conv(x) if hasattr(self, "in_conv") else x
        return x + self.block2(F.relu(self.block1(x)))


class OriginalFull(nn.Module):
    """The full adapter: one body for all levels."""

    def __init__(self, widths: tuple[int, ...], *, in_channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(64 * in_channels, widths[0], 3, padding=1)
        pairs = [(widths[max(i - 1, 0)], width) for i, width in enumerate(widths)]
        self.body = nn.ModuleList(
            OriginalBlock(taken if j == 0 else width, width, down=i > 0 and j == 0, kernel=1)
            for i, (taken, width) in enumerate(pairs)
            for j in range(2)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        x, features = self.conv_in(F.pixel_unshuffle(image, 8)), []
        for i, block in enumerate(self.body):
            x = block(x)
            if i % 2:
                features.append(x)
        return features


class OriginalLevel(nn.Module):
    """A level of the light adapter: a narrow body between two 1x1 convolutions."""

    def __init__(self, taken: int, given: int, *, down: bool) -> None:
        super().__init__()
        narrow = given // 4
        self.down = down
        self.in_conv = nn.Conv2d(taken, narrow, 1)
        self.body = nn.Sequential(
            *(OriginalBlock(narrow, narrow, down=False, kernel=3) for _ in range(4))
        )
        self.out_conv = nn.Conv2d(narrow, given, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 2) if self.down else x
        return self.out_conv(self.body(self.in_conv(x)))


class OriginalLight(nn.Module):
    """The light adapter."""

    def __init__(self, widths: tuple[int, ...], *, in_channels: int) -> None:
        super().__init__()
        before = (64 * in_channels, *widths[:-1])
        self.body = nn.ModuleList(
            OriginalLevel(taken, given, down=i > 0)
            for i, (taken, given) in enumerate(zip(before, widths, strict=True))
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        x, features = F.pixel_unshuffle(image, 8), []
        for level in self.body:
            x = level(x)
            features.append(x)
        return features


@pytest.mark.parametrize("in_channels", [3, 1])
@pytest.mark.parametrize("kind", [OriginalFull, OriginalLight])
def test_an_original_t2i_adapter_gives_the_same_features(
    family: Family, tmp_path: Path, kind: Any, in_channels: int
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(6)
        net = kind(tuple(family.base.unet.config["block_out_channels"]), in_channels=in_channels)
    path = tmp_path / "t2iadapter.safetensors"
    save_file(net.state_dict(), path)
    plugin = load_t2i(PluginFile("t2i", "t2i-adapter", path), family)
    image = drawn(0, 2, in_channels, 64, 64)
    with torch.no_grad():
        ours, theirs = plugin.net(image), net(image)
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b)
    assert plugin.audit.is_complete


def test_a_t2i_adapter_file_alone_and_one_of_another_model(family: Family, tmp_path: Path) -> None:
    save_t2i(tmp_path / "net")
    file = PluginFile("t2i", "t2i-adapter", tmp_path / "net" / NETWORK_NAMES[0])
    assert load_t2i(file, family).audit.is_complete
    config = tmp_path / "net" / "config.json"
    other = {**json.loads(config.read_text()), "channels": [8, 16, 24, 24]}
    config.write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"widths \[8, 16, 24, 24\], not \[48, 64, 96, 96\]"):
        load_t2i(file, family)
    save_file({"transformer_layes.0.ln_1.weight": torch.ones(4)}, tmp_path / "style.safetensors")
    with pytest.raises(UserError, match="a T2I style adapter"):
        load_t2i(replace(file, path=tmp_path / "style.safetensors"), family)
