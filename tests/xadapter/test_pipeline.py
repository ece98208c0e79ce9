"""The high-level API, on tiny pipelines with real tokenizers."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionControlNetPipeline,
    UniPCMultistepScheduler,
)
from PIL import Image

from tests.xadapter.conftest import new_mapper
from tests.xadapter.pipelines import BETAS, new_solver, with_scheduler
from tests.xadapter.worlds import deviation, quiet
from xadapter import XAdapter, shared_schedulers
from xadapter.errors import MapperFitError, SettingError
from xadapter.mapper import Mapper

N_STEPS = 3


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


def test_wrong_inputs_are_refused(base_pipe: Any, upgraded_pipe: Any, joined: XAdapter) -> None:
    wrong = Mapper(in_channels=(12, 8, 6), out_channels=(16, 16, 8))
    with pytest.raises(MapperFitError, match=r"\(12, 8, 6\)"):
        XAdapter.from_pipelines(base_pipe, upgraded_pipe, wrong)
    with pytest.raises(SettingError, match=r"multiple of 4 px.*got 26"):
        call(joined, width=26)
    with pytest.raises(SettingError, match=r"2 (base_)?prompts for 1 seeds"):
        call(joined, ["a", "b"])
    with pytest.raises(SettingError, match=r"0 < t0 <= 1, got 1.5"):
        call(joined, t0=1.5)


def test_scheduler_may_be_a_class_and_wins(base_pipe: Any, upgraded_pipe: Any) -> None:
    joined = XAdapter.from_pipelines(base_pipe, upgraded_pipe, new_mapper())
    euler = call(joined).latents
    assert torch.equal(call(joined, scheduler=EulerDiscreteScheduler).latents, euler)
    unipc = with_scheduler(
        upgraded_pipe, UniPCMultistepScheduler.from_config(upgraded_pipe.scheduler.config)
    )
    own = call(XAdapter.from_pipelines(base_pipe, unipc, new_mapper())).latents
    assert torch.equal(call(joined, scheduler=UniPCMultistepScheduler).latents, own)
    assert deviation(own, euler) > 1e-3


def test_shared_schedulers_keep_class_options_and_each_models_noise_schedule() -> None:
    base = PNDMScheduler(**BETAS, prediction_type="v_prediction")
    options = {"use_karras_sigmas": True, "timestep_spacing": "trailing"}
    upgraded = EulerDiscreteScheduler(beta_start=0.001, beta_end=0.02, **options)
    pair = shared_schedulers(base, upgraded)
    assert [type(side) for side in pair] == [EulerDiscreteScheduler] * 2
    assert pair[1] is not upgraded
    for side, own in zip(pair, (base, upgraded), strict=True):
        assert {name: side.config[name] for name in options} == options
        assert torch.equal(side.betas, own.betas)
        assert side.config.prediction_type == own.config.prediction_type


@pytest.mark.parametrize("preset", ["released", "released-lora"])
def test_released_presets_keep_their_own_solver(
    base_pipe: Any, upgraded_pipe: Any, preset: str
) -> None:
    latents = [
        call(XAdapter.from_pipelines(base_pipe, pipe, new_mapper(), preset=preset)).latents
        for pipe in (upgraded_pipe, with_scheduler(upgraded_pipe, new_solver("ddim")))
    ]
    assert torch.equal(*latents)
    joined = XAdapter.from_pipelines(base_pipe, upgraded_pipe, new_mapper(), preset=preset)
    with pytest.raises(SettingError, match="brings its own solver"):
        call(joined, scheduler=DDIMScheduler)


USABLE = {
    *("DDIMParallelScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDPMScheduler"),
    *("DEISMultistepScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"),
    *("EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"),
    *("KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LCMScheduler"),
    *("SASolverScheduler", "TCDScheduler", "UniPCMultistepScheduler"),
}
SLOW = pytest.mark.slow  # it makes a grid of all training steps each time it is built
EXPORTED = [
    pytest.param(name, marks=SLOW if name == "KDPM2DiscreteScheduler" else ())
    for name in sorted(n for n in dir(diffusers) if n.endswith("Scheduler"))
]


def assert_seeds_alone_decide(joined: XAdapter, scheduler: Any) -> None:
    outs = []
    for seeds in ([3, 4], [3, 4], [4]):
        torch.manual_seed(len(outs))
        outs.append(call(joined, seeds=seeds, t0=0.7, scheduler=scheduler).latents)
    assert torch.isfinite(outs[0]).all()
    assert torch.equal(outs[0], outs[1])
    assert deviation(outs[0][1:], outs[2]) < 1e-4


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # in diffusers
@pytest.mark.parametrize("name", EXPORTED)
def test_every_exported_scheduler_is_seeded_per_image_or_refused(
    joined: XAdapter, name: str
) -> None:
    solver_class = getattr(diffusers, name)
    if name in USABLE:
        return assert_seeds_alone_decide(joined, solver_class)
    with pytest.raises(SettingError, match=rf"^{name} cannot be used: it \w+"):
        call(joined, scheduler=solver_class)


@pytest.mark.filterwarnings("ignore:.*sde-dpmsolver is deprecated:FutureWarning")
@pytest.mark.parametrize("algorithm", ["sde-dpmsolver", "sde-dpmsolver++"])
def test_sde_variants_are_seeded_per_image(joined: XAdapter, algorithm: str) -> None:
    solver = DPMSolverMultistepScheduler(
        **BETAS,
        timestep_spacing="leading",
        algorithm_type=algorithm,
        final_sigmas_type="sigma_min",
    )
    assert_seeds_alone_decide(joined, solver)


def test_solver_that_needs_its_first_steps_is_refused(base_pipe: Any, upgraded_pipe: Any) -> None:
    pipe = with_scheduler(upgraded_pipe, PNDMScheduler(**BETAS))
    with pytest.raises(SettingError, match=r"PNDMScheduler cannot be used.*starts in the middle"):
        call(XAdapter.from_pipelines(base_pipe, pipe, new_mapper()))


def test_importing_the_package_leaves_torch_out() -> None:
    code = "import sys, xadapter; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
