"""Tiny random plugins of every kind that brings a network or vectors, and how to watch them act."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, T2IAdapter
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from plugins_manifest.schema.words import Side
from runners.base import PassName, PluginFile, RenderCase, Variant
from runners.families.family import Family
from runners.group import run_group
from runners.session import GroupSession
from tests.runners.conftest import SETTINGS, randomized
from tests.runners.methods.test_methods import schedulers

IMAGE_WIDTH, N_IMAGE_TOKENS, TEXT_WIDTH = 24, 4, 64
WORD = "zzstyle"


class Probe:
    """A method that keeps stage 1's latents as they are."""

    name: str = "base"
    uses_t0: bool = False
    uses_plugin: bool = True
    uses_adapter: bool = False
    side: Side = "base"
    shares: tuple[PassName, ...] = ("base_text", "stage1")

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        self.latents = session.stage1().latents
        return np.zeros((len(session.cases), 64, 64, 3), np.uint8)


def stage1_latents(
    family: Family,
    plugin: PluginFile | tuple[PluginFile, ...] | None,
    cases: Sequence[RenderCase],
    *,
    scale: float = 1.0,
) -> Tensor:
    """Latents [b, c, h, w] of the base model with a plugin."""
    probe = Probe()
    variants = [Variant("base", plugin_scale=scale)]
    results = run_group(family, plugin, cases, variants, SETTINGS, methods={"base": probe})
    assert [result.error for result in results] == [None] * len(cases)
    return probe.latents


def assert_close(ours: Tensor, theirs: Tensor, *, to: float = 1e-5) -> None:
    """Equal to 1e-5 of the largest value."""
    assert float((ours - theirs).abs().max()) < to * float(theirs.abs().max())


def stock_pipeline(family: Family) -> StableDiffusionPipeline:
    """Diffusers' own pipeline over the family's base parts, on the family's grid."""
    parts = {**family.base.components, "scheduler": schedulers(family)[0]}
    pipe = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def save_t2i(folder: Path, *, kind: str = "full_adapter", in_channels: int = 3) -> T2IAdapter:
    """Return a diffusers folder of an adapter for the pocket base model."""
    channels = [48, 64, 96, 96]
    net = T2IAdapter(
        in_channels=in_channels,
        channels=channels if kind == "full_adapter" else channels[:-1],
        num_res_blocks=2,
        downscale_factor=8,
        adapter_type=kind,
    )
    randomized(net, 4)
    net.save_pretrained(folder)
    return net.eval().requires_grad_(False)


def ip_adapter_state(unet: Any) -> dict[str, Tensor]:
    """Return an ip-adapter_sd15 file for a UNet: projection, two matrices per cross-attention."""
    state = {
        "image_proj.proj.weight": 0.3 * drawn(0, N_IMAGE_TOKENS * TEXT_WIDTH, IMAGE_WIDTH),
        "image_proj.proj.bias": 0.1 * drawn(1, N_IMAGE_TOKENS * TEXT_WIDTH),
        "image_proj.norm.weight": 1 + 0.1 * drawn(2, TEXT_WIDTH),
        "image_proj.norm.bias": 0.1 * drawn(3, TEXT_WIDTH),
    }
    names = [name for name in unet.attn_processors if "attn2" in name]
    for index, name in enumerate(names):
        width = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
        for seed, part in enumerate(("to_k_ip", "to_v_ip")):
            values = 0.3 * drawn(10 + 2 * index + seed, width, TEXT_WIDTH)
            state[f"ip_adapter.{2 * index + 1}.{part}.weight"] = values
    return state


def save_ip_adapter(folder: Path, unet: Any, *, image_width: int = IMAGE_WIDTH) -> Path:
    """Return the file, and its image encoder beside it; returns the file."""
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=image_width,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        encoder = CLIPVisionModelWithProjection(config)
    encoder.save_pretrained(folder / "image_encoder")
    path = folder / "ip-adapter_sd15.safetensors"
    save_file(ip_adapter_state(unet), path)
    return path


def parts_of(family: Family) -> dict[str, Any]:
    """Everything of the base side that a plugin could leave changed: values and the objects."""
    pipe: Any = family.base
    weights = {
        f"{part}.{key}": value.clone()
        for part in ("unet", "text_encoder", "vae")
        for key, value in getattr(pipe, part).state_dict().items()
    }
    return {
        "weights": weights,
        "objects": [
            pipe.tokenizer,
            pipe.text_encoder.get_input_embeddings(),
            pipe.unet.encoder_hid_proj,
            *pipe.unet.attn_processors.values(),
        ],
        "hid_type": pipe.unet.config.encoder_hid_dim_type,
        "words": dict(pipe.tokenizer.get_vocab()),
    }


def assert_untouched(before: dict[str, Any], family: Family) -> None:
    """Bit for bit, and the very same objects."""
    after = parts_of(family)
    assert before["weights"].keys() == after["weights"].keys()
    assert all(torch.equal(value, after["weights"][k]) for k, value in before["weights"].items())
    assert all(a is b for a, b in zip(before["objects"], after["objects"], strict=True))
    assert before["hid_type"] == after["hid_type"]
    assert before["words"] == after["words"]
