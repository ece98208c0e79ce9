"""Trials in lock-step equal each trial alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.xadapter.worlds import N_STEPS, World, drawn, make_world
from xadapter.denoiser import Conditions, Control
from xadapter.guidance import Guidance
from xadapter.handover import hand_over, sdedit_start
from xadapter.mapper import Mapper
from xadapter.presets import PRESETS, Preset
from xadapter.sampling import Stage2Trial, run_stage1, run_stage2, run_stage2_together
from xadapter.t2i import RESIDUALS
from xadapter.vae import cross_bridge

pytestmark = pytest.mark.system

SEEDS, T0S, SCALES = [1, 2], (0.4, 0.8), (1.0, 0.3)
LIMIT = 2e-5  # relative to the largest value


@pytest.fixture(scope="session")
def world(models: Any, controlnets: list[Any]) -> World:
    image = drawn(9, len(SEEDS), 3, 16, 12).sigmoid()
    windows: tuple[dict[str, Any], ...] = ({"window": (0.0, 0.5)}, {"guess": True})
    controls = [Control(net, image, **w) for net, w in zip(controlnets, windows, strict=False)]
    return make_world(models, seeds=SEEDS, controls=tuple(controls))


def trials_of(world: World, preset: Preset) -> list[Stage2Trial]:
    noise = world.noise
    sides: dict[str, Any] = {"base": world.base, "upgraded": world.upgraded, "preset": preset}
    stage1 = run_stage1(world.base, noise.base_start, n_steps=N_STEPS, preset=preset)
    bridge = cross_bridge(
        world.base_vae,
        world.upgraded_vae,
        stage1.latents,
        posterior_noise=noise.upgraded_posterior,
    )
    noises: dict[str, Any] = {
        "upgraded_noise": noise.upgraded_noise,
        "base_noise": noise.base_noise,
    }
    trials = []
    for t0 in T0S:
        start = hand_over(stage1, bridge, t0=t0, **sides, **noises)
        trials += [Stage2Trial(start, scale) for scale in SCALES]
        clean = sdedit_start(
            bridge.upgraded_latents,
            upgraded=world.upgraded,
            n_steps=N_STEPS,
            t0=t0,
            noise=noise.upgraded_noise,
            preset=preset,
        )
        trials.append(Stage2Trial(clean))
    return trials


def alone(world: World, mapper: Mapper, trial: Stage2Trial, preset: Preset) -> Tensor:
    scale = trial.adapter_scale
    return run_stage2(
        world.upgraded,
        trial.start,
        base=world.base,
        mapper=None if scale is None else mapper,
        adapter_scale=0.0 if scale is None else scale,
        preset=preset,
    )


@pytest.mark.parametrize("preset_name", ["sound", "released-lora", "released-controlnet"])
@pytest.mark.parametrize("guidances", [(3.0, 3.0), (1.0, 3.0), (3.0, 1.0)])
def test_trials_in_lockstep_equal_each_alone(
    world: World, mapper: Mapper, preset_name: str, guidances: tuple[float, float]
) -> None:
    preset = PRESETS[preset_name]
    base, upgraded = (
        replace(side, guidance=Guidance(scale))
        for side, scale in zip((world.base, world.upgraded), guidances, strict=True)
    )
    own = replace(world, base=base, upgraded=upgraded)
    trials = trials_of(own, preset)
    expected = [alone(own, mapper, trial, preset) for trial in trials]
    run: dict[str, Any] = {"base": base, "mapper": mapper, "preset": preset}
    exact = run_stage2_together(upgraded, trials, **run)
    assert all(torch.equal(a, b) for a, b in zip(exact, expected, strict=True))
    joined = run_stage2_together(upgraded, trials, most=3, **run)
    for found, wanted in zip(joined, expected, strict=True):
        assert float((found - wanted).abs().max() / wanted.abs().max()) < LIMIT


def test_copies_of_images_keep_the_halves_of_guidance() -> None:
    rows = torch.tensor([[0.0], [1.0], [10.0], [11.0]])  # two unconditional rows, two conditional
    text = torch.tensor([[[1.0]], [[2.0]]])
    conditions = Conditions(
        text, negative_text=-text, added={"image_embeds": [rows]}, unet_kwargs={RESIDUALS: [rows]}
    )
    copied = conditions.repeated(2, guided=True)
    assert copied.text.flatten().tolist() == [1.0, 2.0, 1.0, 2.0]
    assert copied.added["image_embeds"][0].flatten().tolist() == [0, 1, 0, 1, 10, 11, 10, 11]
    assert copied.unet_kwargs[RESIDUALS][0].flatten().tolist() == [0, 1, 0, 1, 10, 11, 10, 11]
    assert copied.pooled is None
