"""The friendly entry, on tiny pipelines with real tokenizers."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from tests.xadapter.conftest import BASE_TEXT_WIDTH, POOLED_WIDTH, new_mapper
from tests.xadapter.worlds import quiet
from xadapter import XAdapter
from xadapter.errors import MapperFitError, SettingError
from xadapter.mapper import Mapper

LETTERS = "abcdefghijklmnopqrstuvwxyz"
N_STEPS = 3
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


@pytest.fixture(scope="module")
def base_pipe(models: Any) -> Any:
    return quiet(
        StableDiffusionPipeline(
            vae=models.base_vae,
            text_encoder=text_encoder(BASE_TEXT_WIDTH, 11),
            tokenizer=tokenizer(),
            unet=models.base_unet,
            scheduler=PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


@pytest.fixture(scope="module")
def upgraded_pipe(models: Any) -> Any:
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


@pytest.fixture(scope="module")
def joined(base_pipe: Any, upgraded_pipe: Any) -> XAdapter:
    return XAdapter.from_pipelines(base_pipe, upgraded_pipe, new_mapper())


def call(joined: XAdapter, prompt: Any = "a cat", **kwargs: Any) -> Any:
    sizes = {"steps": N_STEPS, "width": 24, "height": 32} | kwargs
    return joined(prompt, **sizes)


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_prompt_gives_one_picture_per_seed(joined: XAdapter) -> None:
    out = call(joined, seeds=[0, 1], t0=0.7)
    assert [image.size for image in out.images] == [(24, 32)] * 2
    assert [image.size for image in out.base_images] == [(12, 16)] * 2
    assert out.t0 == pytest.approx(2 / 3)
    alone = call(joined, seeds=[1], t0=0.7)
    assert torch.allclose(alone.latents, out.latents[1:], atol=1e-4)


def test_both_prompts_matter(joined: XAdapter) -> None:
    same = call(joined, "a cat", base_prompt="a cat").latents
    assert torch.equal(call(joined, "a cat").latents, same)
    assert not torch.equal(call(joined, "a cat", base_prompt="a dog").latents, same)
    assert not torch.equal(call(joined, "a cat", negative_prompt="a dog").latents, same)


@pytest.mark.parametrize("stage1", ["full", "truncated", "none"])
def test_every_stage1_mode_runs(joined: XAdapter, stage1: Any) -> None:
    out = call(joined, stage1=stage1)
    assert torch.isfinite(out.latents).all()
    assert bool(out.base_images) == (stage1 == "full")
    assert out.t0 == (1.0 if stage1 == "none" else pytest.approx(2 / 3))


def test_sizes_that_halve_to_odd_latents_run(joined: XAdapter) -> None:
    out = call(joined, width=20, height=12)
    assert out.images[0].size == (20, 12)
    assert tuple(out.latents.shape) == (1, 4, 6, 10)


def test_guidance_off_and_prompts_per_seed_run(joined: XAdapter) -> None:
    out = call(joined, ["a cat", "a dog"], seeds=[0, 0], guidance_scale=1.0)
    assert not torch.equal(out.latents[0], out.latents[1])


def test_controlnets_of_the_base_pipeline_are_used(
    base_pipe: Any, upgraded_pipe: Any, controlnets: Any
) -> None:
    parts = base_pipe.components | {"controlnet": controlnets}
    parts.pop("image_encoder", None)
    pipe = quiet(StableDiffusionControlNetPipeline(**parts, requires_safety_checker=False))
    own = XAdapter.from_pipelines(pipe, upgraded_pipe, new_mapper())
    given = XAdapter.from_pipelines(base_pipe, upgraded_pipe, new_mapper())
    images = [picture(1), picture(2)]
    first = call(own, control_images=images, control_scale=[1.0, 0.5]).latents
    second = call(
        given, controlnets=controlnets, control_images=images, control_scale=[1.0, 0.5]
    ).latents
    assert torch.equal(first, second)
    assert not torch.equal(call(given).latents, first)
    with pytest.raises(SettingError, match="2 ControlNets, 0 control images"):
        call(own)


@pytest.mark.parametrize("preset", ["sound", "released"])
def test_source_image_with_a_controlnet_runs(
    base_pipe: Any, upgraded_pipe: Any, controlnets: Any, preset: str
) -> None:
    joined = XAdapter.from_pipelines(base_pipe, upgraded_pipe, new_mapper(), preset=preset)
    out = call(
        joined,
        controlnets=controlnets[:1],
        control_images=picture(3),
        source_image=picture(3),
        seeds=[0, 1],
    )
    assert torch.isfinite(out.latents).all()


def test_released_preset_differs_from_sound(base_pipe: Any, upgraded_pipe: Any) -> None:
    outs = [
        call(XAdapter.from_pipelines(base_pipe, upgraded_pipe, new_mapper(), preset=name)).latents
        for name in ("sound", "released")
    ]
    assert not torch.allclose(*outs)


def test_mapper_may_be_a_path(tmp_path: Any, base_pipe: Any, upgraded_pipe: Any) -> None:
    new_mapper().save_pretrained(tmp_path)
    joined = XAdapter.from_pipelines(base_pipe, upgraded_pipe, tmp_path)
    assert joined.mapper.in_channels == (12, 8, 4)


def test_wrong_inputs_are_told(base_pipe: Any, upgraded_pipe: Any, joined: XAdapter) -> None:
    wrong = Mapper(in_channels=(12, 8, 6), out_channels=(16, 16, 8))
    with pytest.raises(MapperFitError, match=r"\(12, 8, 6\)"):
        XAdapter.from_pipelines(base_pipe, upgraded_pipe, wrong)
    with pytest.raises(SettingError, match=r"multiple of 4 px.*got 26"):
        call(joined, width=26)
    with pytest.raises(SettingError, match=r"2 (base_)?prompts for 1 seeds"):
        call(joined, ["a", "b"])
    with pytest.raises(SettingError, match=r"0 < t0 <= 1, got 1.5"):
        call(joined, t0=1.5)


def test_importing_the_package_leaves_torch_out() -> None:
    code = "import sys, xadapter; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
