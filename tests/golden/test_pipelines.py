"""The `released` preset reproduces every recorded pipeline, step by step."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from safetensors.torch import load_file
from torch import Tensor

from tests.golden.conftest import (
    FINAL_LIMIT,
    FORWARD_LIMIT,
    Case,
    case_params,
    golden_folder,
    model,
    require,
    worst,
)
from xadapter.noise import Noise, NoiseSource, generators_from
from xadapter.presets import Preset, find_preset
from xadapter.sampling import (
    Conditions,
    Control,
    Denoiser,
    Guidance,
    Stage2Start,
    StepRecord,
    hand_over,
    run_stage1,
    run_stage2,
)
from xadapter.vae import cross_bridge, decode_image, encode_image, resize_8bit, to_uint8


@cache
def scheduler(side: str) -> Any:
    path = golden_folder() / "schedulers" / "schedulers.json"
    source = json.loads(path.read_text(encoding="utf-8"))[side]["source_file_json"]
    return DPMSolverMultistepScheduler.from_config(source)


def base_unet(case: Case) -> Any:
    """Return the recorded base UNet; with merged weights where the case says so."""
    note = case.json.get("base_weights")
    if note is None:
        return model("base_unet")
    prefix = "base_unet."
    changed = load_file(golden_folder() / note.split(" ")[0])
    state = {k[len(prefix) :]: v for k, v in changed.items() if k.startswith(prefix)}
    merged = deepcopy(model("base_unet"))
    state = {k if k.endswith(".weight") else f"{k}.weight": v for k, v in state.items()}
    assert not merged.load_state_dict(state, strict=False).unexpected_keys
    return merged


def noise_of(case: Case) -> Noise:
    purposes = {
        "base initial latent": "base_start",
        "noise added to the encoded source image": "base_start",
        "base VAE posterior sample of the source image": "source_posterior",
        "upgraded VAE posterior sample": "upgraded_posterior",
        "noise added to the upgraded latent": "upgraded_noise",
        "noise added to the base latent": "base_noise",
    }
    named = {
        purposes[entry["purpose"]]: case.tensors[entry["tensor"]]
        for entry in case.json["noise_log"]
        if entry["purpose"] in purposes
    }
    return Noise(**named)


def sides(case: Case) -> tuple[Denoiser, Denoiser]:
    tensors, call = case.tensors, case.json["call"]
    guidance = Guidance(call["guidance_scale"], call.get("guidance_rescale", 0.0))
    text = tensors["base_prompt_embeds"]
    base_text = Conditions(text=text[-1:], negative_text=text[:1] if guidance.is_on else None)
    upgraded_text = Conditions(
        text=tensors["upgraded_prompt_embeds"],
        negative_text=tensors.get("upgraded_negative_prompt_embeds"),
        pooled=tensors["upgraded_pooled"],
        negative_pooled=tensors.get("upgraded_negative_pooled"),
        time_ids=tensors["upgraded_time_ids"][-1:],
    )
    controls = ()
    if "control_image_uint8" in tensors:
        controls = (
            Control(
                model("base_controlnet"),
                tensors["control_image_uint8"].permute(2, 0, 1)[None].float() / 255,
                scale=call["controlnet_conditioning_scale"],
                window=(
                    call.get("control_guidance_start", 0.0),
                    call.get("control_guidance_end", 1.0),
                ),
                guess=call.get("guess_mode", False),
            ),
        )
    base = Denoiser(base_unet(case), scheduler("base"), base_text, guidance, controls)
    upgraded = Denoiser(model("upgraded_unet"), scheduler("upgraded"), upgraded_text, guidance)
    return base, upgraded


def preset_of(case: Case) -> Preset:
    return find_preset(
        "released",
        has_control="control_image_uint8" in case.tensors,
        has_source=noise_of(case).source_posterior is not None,
    )


def assert_close(ours: Tensor, recorded: Tensor) -> None:
    assert worst(ours, recorded) <= FINAL_LIMIT * float(recorded.abs().max())


@pytest.mark.parametrize("name", case_params("pipelines"))
def test_released_preset_reproduces_the_recorded_pipeline(name: str) -> None:
    case = require("pipelines", name)
    call, noise, preset = case.json["call"], noise_of(case), preset_of(case)
    base, upgraded = sides(case)
    steps1: list[StepRecord] = []
    stage1 = run_stage1(
        base,
        noise.base_start,
        n_steps=call["num_inference_steps"],
        preset=preset,
        source=source_latents(case, noise),
        observer=steps1.append,
    )
    check_stage1(case, steps1)
    bridge = cross_bridge(
        model("base_vae"),
        model("upgraded_vae"),
        stage1.latents,
        posterior_noise=noise.upgraded_posterior,
        resize=preset.resize,
    )
    assert np.array_equal(to_uint8(bridge.image)[0], case.tensors["bridge_uint8"].numpy())
    start = hand_over(
        stage1,
        bridge,
        base=base,
        upgraded=upgraded,
        t0=call["adapter_guidance_start"],
        upgraded_noise=noise.upgraded_noise,
        base_noise=noise.base_noise,
        preset=preset,
    )
    check_start(case, start)
    steps2: list[StepRecord] = []
    final = run_stage2(
        upgraded,
        start,
        base=base,
        mapper=model("mapper"),
        adapter_scale=call["adapter_condition_scale"],
        fusion=call.get("fusion_guidance_scale"),
        preset=preset,
        observer=steps2.append,
    )
    check_stage2(case, steps2)
    assert_close(final, case.tensors["stage2_upgraded_latents"][-1])
    check_inner_values(case, bridge.image, steps1, steps2)
    check_picture(case, final)


def source_latents(case: Case, noise: Noise) -> Tensor | None:
    """Return base latents of the source image, in the tile pipeline."""
    if noise.source_posterior is None:
        return None
    pixels = case.tensors["control_image_uint8"].permute(2, 0, 1)[None]
    return encode_image(model("base_vae"), pixels.float() / 255 * 2 - 1, noise.source_posterior)


def check_stage1(case: Case, steps: list[StepRecord]) -> None:
    assert [int(step.timestep) for step in steps] == case.json["timesteps_stage1"]
    assert_close(torch.stack([step.latents for step in steps]), case.tensors["stage1_latents"])


def check_start(case: Case, start: Stage2Start) -> None:
    assert start.base is not None
    assert start.n_last_steps == case.json["num_stage2_steps"]
    assert_close(start.upgraded, case.tensors["upgraded_start"])
    assert_close(start.base, case.tensors["base_start"])


def check_stage2(case: Case, steps: list[StepRecord]) -> None:
    tensors = case.tensors
    assert [int(step.timestep) for step in steps] == case.json["timesteps_stage2_upgraded"]
    base_latents = torch.stack([s.base_latents for s in steps if s.base_latents is not None])
    assert_close(base_latents, tensors["stage2_base_latents"])
    assert_close(torch.stack([s.latents for s in steps]), tensors["stage2_upgraded_latents"])


def check_inner_values(
    case: Case, image: Tensor, steps1: list[StepRecord], steps2: list[StepRecord]
) -> None:
    """Return the values that only the first case of each kind records."""
    tensors = case.tensors
    seen: dict[str, Tensor | None] = {
        "stage1_first_guided_eps": steps1[0].prediction,
        "stage2_base_first_guided_eps": steps2[0].base_prediction,
        "stage2_upgraded_first_guided_eps": steps2[0].prediction,
    }
    seen |= {f"first_hidden_{i}": f for i, f in enumerate(steps2[0].features)}
    seen |= {f"first_residual_{i}": f for i, f in enumerate(steps2[0].offsets)}
    for name, ours in seen.items():
        if name in tensors and ours is not None:
            assert_close(ours, tensors[name])
    if "bridge_decoded" in tensors:
        assert worst(image, tensors["bridge_decoded"].clamp(-1, 1)) <= FORWARD_LIMIT
    if "bridge_resized_uint8" in tensors:
        height, width = tensors["bridge_resized_uint8"].shape[:2]
        resized = to_uint8(resize_8bit(image, height, width))[0]
        assert np.array_equal(resized, tensors["bridge_resized_uint8"].numpy())


def check_picture(case: Case, final: Tensor) -> None:
    picture = (decode_image(model("upgraded_vae"), final) / 2 + 0.5).clamp(0, 1)
    picture = picture.permute(0, 2, 3, 1)
    if "final_image" in case.tensors:
        assert_close(picture, case.tensors["final_image"])
    else:
        rounded = (picture * 255).round()
        assert worst(rounded, case.tensors["final_image_uint8"].float()) <= 1


@pytest.mark.parametrize("name", case_params("pipelines"))
def test_draw_order_of_the_preset_gives_the_recorded_noise(name: str) -> None:
    case = require("pipelines", name)
    recorded = noise_of(case)
    base_chw = tuple(recorded.base_start.shape[1:])
    upgraded_chw = tuple(recorded.upgraded_noise.shape[1:])
    generators = generators_from([case.json["generator_seed"]])
    drawn = NoiseSource(generators, preset_of(case).draw_order).draw(
        base_chw=base_chw, upgraded_chw=upgraded_chw
    )
    for name_, value in vars(recorded).items():
        if value is not None:
            assert torch.equal(getattr(drawn, name_), value), name_
