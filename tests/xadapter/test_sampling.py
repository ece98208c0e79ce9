"""Sampling: batches, modes, shared stage 1, controls."""

from __future__ import annotations

import gc
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.xadapter.worlds import N_STEPS, deviation, drawn, make_world, noise_for, scheduler
from xadapter.denoiser import Control
from xadapter.errors import SettingError
from xadapter.guidance import Guidance
from xadapter.presets import RELEASED_LORA
from xadapter.sampling import (
    StepRecord,
    hand_over,
    hand_over_truncated,
    run_alone,
    run_stage1,
    run_stage2,
)
from xadapter.vae import cross_bridge

SKIP_SHAPES = [(4, 16, 12), (4, 16, 12), (4, 8, 6), (8, 8, 6), (8, 4, 3), (16, 4, 3)]


def test_batch_of_four_equals_each_image_alone(models: Any, mapper: Any) -> None:
    batch = make_world(models, seeds=[1, 2, 3, 4]).render(mapper)
    for i in range(4):
        world = make_world(models, seeds=[1, 2, 3, 4])
        alone = one_image(world, i).render(mapper)
        assert deviation(batch[i : i + 1], alone) < 1e-5


def one_image(world: Any, i: int) -> Any:
    def row(value: Any) -> Any:
        return value[i : i + 1] if isinstance(value, Tensor) else value

    def cut(conditions: Any) -> Any:
        return replace(
            conditions, **{f.name: row(getattr(conditions, f.name)) for f in fields(conditions)}
        )

    return replace(
        world,
        base=replace(world.base, conditions=cut(world.base.conditions)),
        upgraded=replace(world.upgraded, conditions=cut(world.upgraded.conditions)),
        noise=cut(world.noise),
    )


def test_noise_of_an_image_does_not_depend_on_the_batch() -> None:
    batch, alone = noise_for([5, 6, 7]), noise_for([6])
    for name, value in vars(alone).items():
        assert torch.equal(getattr(batch, name)[1:2], value), name


def test_zero_mapper_leaves_the_two_stage_result_as_sdedit(models: Any, zero_mapper: Any) -> None:
    world = make_world(models)
    assert torch.equal(world.render(zero_mapper), world.render(None))


def test_adapter_scale_and_fusion_change_the_result(models: Any, mapper: Any) -> None:
    world = make_world(models)
    plain = world.render(mapper)
    assert deviation(world.render(mapper, adapter_scale=1.5), plain) > 1e-3
    assert deviation(world.render(mapper, fusion=0.5), plain) > 1e-3


@pytest.mark.parametrize("solver", ["dpm++", "euler", "ddim", "unipc"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_every_solver_and_prediction_runs_through_both_stages(
    models: Any, mapper: Any, solver: str, prediction: str
) -> None:
    world = make_world(models, solver=solver, prediction=prediction)
    assert torch.isfinite(world.render(mapper)).all()


@pytest.mark.parametrize("scales", [(3.0, 1.0), (1.0, 3.0), (1.0, 1.0)])
def test_guidance_may_be_on_at_either_side_or_none(
    models: Any, mapper: Any, scales: tuple[float, float]
) -> None:
    guidance = (Guidance(scales[0]), Guidance(scales[1]))
    assert torch.isfinite(make_world(models, guidance=guidance).render(mapper)).all()


def test_truncated_mode_takes_every_t0_from_one_pass(models: Any, mapper: Any) -> None:
    world = make_world(models)
    t0s = (0.4, 0.6, 1.0)
    noise = world.noise
    stage1 = run_stage1(world.base, noise.base_start, n_steps=N_STEPS, snapshots_at=t0s)
    assert sorted(stage1.snapshots) == [0, 2, 3]
    assert torch.equal(stage1.snapshots[0], noise.base_start)
    for t0 in t0s:
        start = hand_over_truncated(
            stage1,
            base=world.base,
            upgraded=world.upgraded,
            base_vae=models.base_vae,
            upgraded_vae=models.upgraded_vae,
            t0=t0,
            posterior_noise=noise.upgraded_posterior,
        )
        assert start.t0 == pytest.approx(t0)
        final = run_stage2(world.upgraded, start, base=world.base, mapper=mapper)
        assert torch.isfinite(final).all()
    with pytest.raises(SettingError, match="snapshots_at"):
        hand_over_truncated(
            stage1,
            base=world.base,
            upgraded=world.upgraded,
            base_vae=models.base_vae,
            upgraded_vae=models.upgraded_vae,
            t0=0.8,
            posterior_noise=noise.upgraded_posterior,
        )


def test_truncated_latents_of_sigma_space_solvers_are_those_of_ddim(models: Any) -> None:
    """Euler and DDIM take the same steps in two scalings; so does the hand-over."""
    starts = {}
    for solver in ("euler", "ddim"):
        world = make_world(models, solver=solver)
        stage1 = run_stage1(world.base, world.noise.base_start, n_steps=12, snapshots_at=(0.5,))
        start = hand_over_truncated(
            stage1,
            base=world.base,
            upgraded=world.upgraded,
            base_vae=models.base_vae,
            upgraded_vae=models.upgraded_vae,
            t0=0.5,
            posterior_noise=world.noise.upgraded_posterior,
        )
        probe = scheduler(solver)
        probe.set_timesteps(12)
        starts[solver] = probe.scale_model_input(start.upgraded, probe.timesteps[6])
    assert deviation(starts["euler"], starts["ddim"]) < 0.05


def test_stage1_is_shared_by_every_t0_and_scale(models: Any, mapper: Any) -> None:
    world = make_world(models)
    noise = world.noise
    stage1 = run_stage1(world.base, noise.base_start, n_steps=N_STEPS, preset=RELEASED_LORA)
    bridge = cross_bridge(
        models.base_vae,
        models.upgraded_vae,
        stage1.latents,
        posterior_noise=noise.upgraded_posterior,
        resize=RELEASED_LORA.resize,
    )

    def second(t0: float) -> Tensor:
        start = hand_over(
            stage1,
            bridge,
            base=world.base,
            upgraded=world.upgraded,
            t0=t0,
            upgraded_noise=noise.upgraded_noise,
            base_noise=noise.base_noise,
            preset=RELEASED_LORA,
        )
        return run_stage2(
            world.upgraded, start, base=world.base, mapper=mapper, preset=RELEASED_LORA
        )

    first = second(0.8)
    second(0.4)
    assert torch.equal(second(0.8), first)


def test_source_image_starts_stage1(models: Any) -> None:
    world = make_world(models)
    source = drawn(40, 1, 4, 8, 6)
    with_source = run_stage1(
        world.base, world.noise.base_start, n_steps=N_STEPS, source=source
    ).latents
    without = run_stage1(world.base, world.noise.base_start, n_steps=N_STEPS).latents
    assert deviation(with_source, without) > 1e-3


def test_control_window_goes_on_counting_in_stage2(
    models: Any, mapper: Any, controlnets: Any
) -> None:
    """A window that ends before t0 leaves stage 2 alone in `sound`."""
    image = drawn(50, 1, 3, 16, 12).sigmoid()
    weights: list[float] = []

    class Counting(Control):
        def weight(self, step: int, n_steps: int) -> float:
            weights.append(super().weight(step, n_steps))
            return weights[-1]

    control = Counting(controlnets[0], image, 1.0, (0.0, 0.4))
    make_world(models, controls=(control,)).render(mapper, t0=0.6)
    assert weights == [1.0, 1.0, 0.0, 0.0, 0.0] + [0.0] * 3


def test_controls_on_the_upgraded_side_act(models: Any) -> None:
    """Extra residuals given to the upgraded UNet change its result, and are not used up."""
    world = make_world(models)
    residuals = [drawn(60 + i, 2, *shape) for i, shape in enumerate(SKIP_SHAPES)]
    conditions = replace(
        world.upgraded.conditions,
        unet_kwargs={
            "down_block_additional_residuals": residuals,
            "mid_block_additional_residual": torch.zeros(2, 16, 4, 3),
        },
    )
    changed = replace(world.upgraded, conditions=conditions)
    noise = world.noise.upgraded_noise
    assert (
        deviation(run_alone(changed, noise, n_steps=2), run_alone(world.upgraded, noise, n_steps=2))
        > 1e-3
    )
    assert len(residuals) == 6


def test_observer_sees_every_step_of_both_sides(models: Any, mapper: Any) -> None:
    records: list[StepRecord] = []
    world = make_world(models)
    final = world.render(mapper, t0=0.6, observer=records.append)
    assert [r.index for r in records] == [0, 1, 2]
    assert records[-1].latents is final
    assert [tuple(f.shape) for f in records[0].features] == [
        (2, 12, 4, 3),
        (2, 8, 8, 6),
        (2, 4, 8, 6),
    ]


def test_no_hooks_are_left_behind(models: Any, mapper: Any) -> None:
    make_world(models).render(mapper)
    gc.collect()
    for unet in (models.base_unet, models.upgraded_unet):
        assert not any(module._forward_hooks for module in unet.modules())
