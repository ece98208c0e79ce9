"""Settings of sampling: what is refused, what is stored, what stays finite."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    SASolverScheduler,
)

from tests.xadapter.conftest import Models, new_mapper, tiny_upgraded_unet, tiny_vae
from tests.xadapter.worlds import N_STEPS, drawn, make_world, scheduler
from xadapter.errors import SettingError
from xadapter.handover import sdedit_start
from xadapter.noise import NoiseSource, generators_from
from xadapter.presets import CORRECTED, RELEASED_LORA, find_preset
from xadapter.sampling import (
    Denoiser,
    run_alone,
    run_stage2,
    start_from_noise,
)
from xadapter.solvers import shared_schedulers


def test_half_precision_stays_finite(base_unet: Any) -> None:
    def half(model: Any) -> Any:
        return deepcopy(model).to(torch.bfloat16)

    upgraded = tiny_upgraded_unet()
    models = Models(
        half(base_unet), half(upgraded), half(tiny_vae(3, 0.18)), half(tiny_vae(4, 0.13))
    )
    world = make_world(models)
    final = world.render(new_mapper().to(torch.bfloat16))
    assert final.dtype == torch.float32
    assert torch.isfinite(final).all()
    assert models.upgraded_vae.dtype == torch.bfloat16


@pytest.mark.parametrize("t0", [0.0, -0.1, 1.01])
def test_t0_outside_its_range_is_refused(models: Any, t0: float) -> None:
    world = make_world(models)
    with pytest.raises(SettingError, match=f"got {t0}"):
        world.render(None, t0=t0)


def test_sound_rounds_t0_and_released_refuses_no_step() -> None:
    assert CORRECTED.n_last_steps(10, 0.01) == 1
    assert CORRECTED.n_last_steps(10, 0.59) == 6
    assert RELEASED_LORA.n_last_steps(10, 0.59) == 5
    with pytest.raises(SettingError, match="less than one step"):
        RELEASED_LORA.n_last_steps(10, 0.09)


def test_effective_t0_is_stored(models: Any) -> None:
    world = make_world(models)
    start = sdedit_start(
        drawn(1, 1, 4, 16, 12),
        upgraded=world.upgraded,
        n_steps=N_STEPS,
        t0=0.67,
        noise=world.noise.upgraded_noise,
    )
    assert start.t0 == 0.6


def test_different_grids_are_refused(models: Any, mapper: Any) -> None:
    world = make_world(models)
    trailing = scheduler().from_config(scheduler().config, timestep_spacing="trailing")
    other = replace(world, base=replace(world.base, scheduler=trailing))
    with pytest.raises(SettingError, match="same timesteps"):
        other.render(mapper)


def test_mapper_without_base_side_is_refused(models: Any, mapper: Any) -> None:
    world = make_world(models)
    start = start_from_noise(
        upgraded=world.upgraded, upgraded_noise=world.noise.upgraded_noise, n_steps=N_STEPS
    )
    with pytest.raises(SettingError, match="base side"):
        run_stage2(world.upgraded, start, mapper=mapper)


def test_guidance_without_negative_text_is_refused(models: Any) -> None:
    world = make_world(models)
    bare = replace(world.base.conditions, negative_text=None)
    with pytest.raises(SettingError, match="negative_text"):
        run_alone(replace(world.base, conditions=bare), world.noise.base_start, n_steps=1)


def test_stochastic_solvers_need_generators_and_repeat(models: Any) -> None:
    world = make_world(models)
    ancestral = EulerAncestralDiscreteScheduler.from_config(scheduler("euler").config)
    side = Denoiser(models.base_unet, ancestral, world.base.conditions, world.base.guidance)
    noise = world.noise.base_start
    with pytest.raises(SettingError, match="step_generators"):
        run_alone(side, noise, n_steps=2)
    twice = [
        run_alone(side, noise, n_steps=2, step_generators=generators_from([1])) for _ in range(2)
    ]
    assert torch.equal(*twice)


@pytest.mark.parametrize(
    "solver_class", [SASolverScheduler, EulerAncestralDiscreteScheduler, DDPMScheduler]
)
def test_latents_do_not_depend_on_the_global_seed(models: Any, solver_class: Any) -> None:
    world = make_world(models)
    solver, _ = shared_schedulers(scheduler(), scheduler(), solver_class=solver_class)
    side = replace(world.base, scheduler=solver)
    latents = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        generators = generators_from([1])
        noise = world.noise.base_start
        latents.append(run_alone(side, noise, n_steps=4, step_generators=generators))
    assert torch.equal(*latents)


class UnknownSolver(EulerDiscreteScheduler):
    """A step of its own, without a generator."""

    def step(self, model_output: Any, timestep: Any, sample: Any, return_dict: bool = True) -> Any:
        return super().step(model_output, timestep, torch.randn_like(sample))


def test_unknown_solver_without_a_generator_is_refused(models: Any) -> None:
    world = make_world(models)
    solver = UnknownSolver.from_config(scheduler("euler").config)
    side = replace(world.base, scheduler=solver)
    with pytest.raises(SettingError, match="takes no generator"):
        run_alone(side, world.noise.base_start, n_steps=2, step_generators=generators_from([1]))


@pytest.mark.parametrize("solver_class", [LMSDiscreteScheduler, PNDMScheduler])
def test_late_start_of_a_solver_with_history_is_refused(models: Any, solver_class: Any) -> None:
    world = make_world(models)
    solver = solver_class.from_config(scheduler().config)
    upgraded = replace(world.upgraded, scheduler=solver)
    with pytest.raises(SettingError, match="starts in the middle"):
        replace(world, upgraded=upgraded).render(None)


def test_released_picks_the_pipeline_that_fits() -> None:
    assert find_preset("released").name == "released-lora"
    assert find_preset("released", has_control=True).name == "released-controlnet"
    tile = find_preset("released", has_control=True, has_source=True)
    assert tile.draw_order[1] == "source_posterior"
    with pytest.raises(SettingError, match="known: released, sound"):
        find_preset("upstream")


def test_noise_needs_a_generator() -> None:
    with pytest.raises(SettingError, match="one generator per image"):
        NoiseSource([])
