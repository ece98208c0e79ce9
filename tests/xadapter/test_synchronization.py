"""No step waits for the device.

The models, and all that is computed from them, are meta tensors: what reads a value of one on the
host (`item`, `bool`, `float`, `cpu`, `numpy`, `nonzero`, `equal`) would wait for a GPU, and raises.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields, replace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from runners.base import SAMPLERS
from tests.xadapter.worlds import World, drawn, make_world
from xadapter.denoiser import Conditions, Control, Denoiser
from xadapter.handover import hand_over, sdedit_start
from xadapter.mapper import Mapper
from xadapter.noise import named_generators
from xadapter.presets import PRESETS
from xadapter.sampling import Stage2Trial, run_alone, run_stage1, run_stage2, run_stage2_together
from xadapter.solvers import shared_schedulers
from xadapter.vae import Bridge, decode_image

SEEDS = [1, 2]
N_STEPS = 3  # a first, a middle and a last one
DEFAULT = "dpm++"


def on_device(conditions: Conditions) -> Conditions:
    values = {field.name: getattr(conditions, field.name) for field in fields(Conditions)}
    tensors = {name: v.to("meta") for name, v in values.items() if isinstance(v, Tensor)}
    return replace(conditions, **tensors)


def moved(side: Denoiser, scheduler: Any) -> Denoiser:
    controls = tuple(
        replace(c, net=deepcopy(c.net).to("meta"), image=c.image.to("meta")) for c in side.controls
    )
    return replace(
        side,
        network=deepcopy(side.unet).to("meta"),
        scheduler=scheduler,
        conditions=on_device(side.conditions),
        controls=controls,
    )


@pytest.fixture(scope="session")
def world(models: Any, controlnets: list[Any]) -> World:
    control = Control(controlnets[0], drawn(9, len(SEEDS), 3, 16, 12).sigmoid())
    return make_world(models, seeds=SEEDS, controls=(control,))


def sides(world: World, sampler: str) -> tuple[Denoiser, Denoiser]:
    """Return base and upgraded model on the device, with a sampler's schedulers."""
    chosen = SAMPLERS[sampler]
    solver: Any = getattr(diffusers, chosen.scheduler)
    if chosen.spacing is not None:
        solver = solver(timestep_spacing=chosen.spacing)
    base, upgraded = shared_schedulers(
        world.base.scheduler, world.upgraded.scheduler, solver_class=solver
    )
    return moved(world.base, base), moved(world.upgraded, upgraded)


@pytest.mark.system  # a second a step on meta tensors
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != DEFAULT])
def test_no_step_of_a_sampler_waits_for_the_device(world: World, sampler: str) -> None:
    base, upgraded = sides(world, sampler)
    common = {"preset": PRESETS["sound"], "step_generators": named_generators(SEEDS, "steps")}
    stage1 = run_stage1(base, world.noise.base_start, n_steps=N_STEPS, **common)
    noise = world.noise.upgraded_noise
    clean = torch.empty_like(noise, device="meta")
    start = sdedit_start(clean, noise=noise, upgraded=upgraded, t0=0.6, n_steps=N_STEPS)
    edited = run_stage2(upgraded, start, **common)
    assert stage1.latents.device.type == edited.device.type == "meta"


@pytest.mark.system
@pytest.mark.parametrize("preset_name", PRESETS)
def test_no_step_of_any_method_waits_for_the_device(
    world: World, mapper: Mapper, preset_name: str
) -> None:
    preset = PRESETS[preset_name]
    base, upgraded = sides(world, DEFAULT)
    noise = {name: vars(world.noise)[name] for name in ("base_noise", "upgraded_noise")}
    common = {"preset": preset, "step_generators": named_generators(SEEDS, "steps")}

    stage1 = run_stage1(base, world.noise.base_start, n_steps=N_STEPS, **common)
    floor = run_alone(upgraded, noise["upgraded_noise"], n_steps=N_STEPS, **common)
    at_t0 = {"upgraded": upgraded, "t0": 0.6, "preset": preset}
    clean = torch.empty_like(floor)
    sdedit = sdedit_start(clean, n_steps=N_STEPS, noise=noise["upgraded_noise"], **at_t0)
    edited = run_stage2(upgraded, sdedit, **common)
    start = hand_over(stage1, Bridge(clean, clean), base=base, **noise, **at_t0)
    joined = run_stage2(upgraded, start, base=base, mapper=deepcopy(mapper).to("meta"), **common)
    trials = [Stage2Trial(sdedit), *(Stage2Trial(start, scale) for scale in (1.0, 0.5))]
    generators = {"step_generators": named_generators(SEEDS, "steps")}
    generators["base_generators"] = generators["step_generators"]
    trials = [replace(trial, **generators) for trial in trials]
    together = run_stage2_together(
        upgraded, trials, base=base, mapper=deepcopy(mapper).to("meta"), preset=preset, most=3
    )
    assert {latents.device.type for latents in (floor, edited, joined, *together)} == {"meta"}


def test_the_vae_does_not_wait_for_the_device(world: World) -> None:
    vae = deepcopy(world.upgraded_vae).to("meta")
    assert decode_image(vae, drawn(1, 2, 4, 8, 8).to("meta")).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("read", [Tensor.item, bool, float, Tensor.cpu, Tensor.nonzero])
def test_a_value_that_is_read_on_the_host_would_be_noticed(read: Any) -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        read(torch.ones((), device="meta"))
