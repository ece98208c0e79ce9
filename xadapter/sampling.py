"""Two-stage sampling: plain functions over two denoisers.

Source: X-Adapter, arXiv 2312.02238, two-stage denoising. Stage 1 runs the base model with its
plugin; the hand-over gives the upgraded model a start at t0; stage 2 runs both in lock-step, with
the mapper's offsets. Legend: b images, c channels, h height, w width; latents are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xadapter.denoiser import Conditions, Control, Denoiser
from xadapter.errors import SettingError
from xadapter.guidance import Guidance
from xadapter.handover import (
    Stage1,
    Stage2Start,
    hand_over,
    hand_over_truncated,
    sdedit_start,
    start_from_noise,
)
from xadapter.mapper import Mapper
from xadapter.presets import CORRECTED, Preset
from xadapter.solvers import (
    Trajectory,
    noised,
    shared_grid,
    start_scale,
    trajectory_from,
    with_generators,
)
from xadapter.taps import capture, inject

__all__ = [
    "Conditions",
    "Control",
    "Denoiser",
    "Guidance",
    "Stage1",
    "Stage2Start",
    "StepRecord",
    "hand_over",
    "hand_over_truncated",
    "run_alone",
    "run_stage1",
    "run_stage2",
    "sdedit_start",
    "start_from_noise",
]


@dataclass(frozen=True)
class StepRecord:
    """One step, for observers: index in the stage, latents after it, inner values of stage 2."""

    index: int
    timestep: Tensor
    latents: Tensor
    prediction: Tensor
    base_latents: Tensor | None = None
    base_prediction: Tensor | None = None
    features: tuple[Tensor, ...] = ()
    offsets: tuple[Tensor, ...] = ()


Observer = Callable[[StepRecord], None]
Generators = Sequence[torch.Generator] | None


def run_stage1(
    base: Denoiser,
    noise_bchw: Tensor,
    *,
    n_steps: int,
    preset: Preset = CORRECTED,
    source: Tensor | None = None,
    snapshots_at: Collection[float] = (),
    observer: Observer | None = None,
    step_generators: Generators = None,
) -> Stage1:
    """Run the base model alone over the whole schedule.

    It starts from `noise_bchw` [b, c, h, w], unit Gaussian; with `source` (scaled base latents of
    a picture) from the source noised to the first timestep. `snapshots_at` lists the t0 values
    whose noisy latents stage-1 mode "truncated" needs.
    """
    solver = preset.solver(base.scheduler, n_steps, base.device)
    noise = noise_bchw.to(base.device)
    if source is None:
        latents = noise * start_scale(solver)
    else:
        latents = noised(solver, source.to(base.device), noise, solver.timesteps[0])
    wanted = {n_steps - preset.n_last_steps(n_steps, t0) for t0 in snapshots_at}
    walk = with_generators(trajectory_from(solver, n_steps), step_generators)
    latents, snapshots = _walk_alone(base, walk, latents, observer=observer, wanted=wanted)
    return Stage1(latents, n_steps, solver, snapshots)


def run_alone(
    denoiser: Denoiser,
    noise_bchw: Tensor,
    *,
    n_steps: int,
    preset: Preset = CORRECTED,
    observer: Observer | None = None,
    step_generators: Generators = None,
) -> Tensor:
    """Run one model alone from unit noise to the end (the reference row `floor`)."""
    return run_stage1(
        denoiser,
        noise_bchw,
        n_steps=n_steps,
        preset=preset,
        observer=observer,
        step_generators=step_generators,
    ).latents


def _walk_alone(
    denoiser: Denoiser,
    walk: Trajectory,
    latents: Tensor,
    *,
    observer: Observer | None,
    wanted: Collection[int] = (),
) -> tuple[Tensor, dict[int, Tensor]]:
    order = walk.solver.order
    snapshots = {0: latents} if 0 in wanted else {}
    with torch.no_grad():
        for index, timestep in enumerate(walk.timesteps):
            prediction = _predict(denoiser, walk, latents, timestep, index)
            latents = walk.step(prediction, timestep, latents)
            n_done = (index + 1) // order
            if (index + 1) % order == 0 and n_done in wanted:
                snapshots[n_done] = latents
            if observer is not None:
                observer(StepRecord(index, timestep, latents, prediction))
    return latents, snapshots


def _predict(
    denoiser: Denoiser, walk: Trajectory, latents: Tensor, timestep: Tensor, index: int
) -> Tensor:
    scaled = walk.solver.scale_model_input(latents, timestep)
    step = walk.first_step + index // walk.solver.order
    return denoiser.predict(scaled, timestep, step=step, n_steps=walk.n_steps)


@dataclass(frozen=True)
class MapperStrength:
    """The mapper and how strongly it acts: offsets times `scale`; `fusion` None adds them."""

    mapper: Mapper
    scale: float = 1.0
    fusion: float | None = None


def run_stage2(
    upgraded: Denoiser,
    start: Stage2Start,
    *,
    base: Denoiser | None = None,
    mapper: Mapper | None = None,
    adapter_scale: float = 1.0,
    fusion: float | None = None,
    preset: Preset = CORRECTED,
    observer: Observer | None = None,
    step_generators: Generators = None,
) -> Tensor:
    """Run the last M steps: both models in lock-step with a mapper, else the upgraded one alone.

    Offsets are multiplied by `adapter_scale` and added, or mixed in by a `fusion` weight. Without
    a mapper the base model never runs: that is SDEdit. Returns the upgraded model's final latents
    [b, c, h, w]. Raises `SettingError` where a mapper comes without a base side, or where the two
    schedulers have different grids.
    """
    n_steps, first = start.n_steps, start.n_steps - start.n_last_steps
    solver = preset.solver(upgraded.scheduler, n_steps, upgraded.device)
    walk = with_generators(trajectory_from(solver, n_steps, first_step=first), step_generators)
    latents = start.upgraded.to(upgraded.device)
    if mapper is None:
        return _walk_alone(upgraded, walk, latents, observer=observer)[0]
    if base is None or start.base is None:
        raise SettingError("a mapper needs the base side: give base and a start with base latents")
    base_walk = _base_walk(base, start, preset, step_generators)
    shared_grid(base_walk.solver.timesteps, solver.timesteps)
    adapter = MapperStrength(mapper, adapter_scale, fusion)
    pair = _JointModels(base, base_walk, upgraded, walk, adapter)
    return _walk_together(pair, start.base.to(base.device), latents, observer=observer)


def _base_walk(
    base: Denoiser, start: Stage2Start, preset: Preset, step_generators: Generators
) -> Trajectory:
    n_steps, first = start.n_steps, start.n_steps - start.n_last_steps
    solver = start.base_solver
    if solver is None:
        solver = preset.solver(base.scheduler, n_steps, base.device)
        trajectory_from(solver, n_steps, first_step=first)
    else:
        solver = preset.carry(solver)
    timesteps = preset.base_steps(solver.timesteps, start.n_last_steps, solver.order)
    position = first if preset.window == "continued" else 0
    return with_generators(Trajectory(solver, timesteps, n_steps, position), step_generators)


@dataclass(frozen=True)
class _JointModels:
    base: Denoiser
    base_walk: Trajectory
    upgraded: Denoiser
    walk: Trajectory
    adapter: MapperStrength


def _walk_together(
    pair: _JointModels, base_latents: Tensor, latents: Tensor, *, observer: Observer | None
) -> Tensor:
    grids = zip(pair.base_walk.timesteps, pair.walk.timesteps, strict=True)
    with torch.no_grad():
        for index, (base_timestep, timestep) in enumerate(grids):
            with capture(pair.base.unet) as tap:
                base_prediction = _predict(
                    pair.base, pair.base_walk, base_latents, base_timestep, index
                )
            offsets = _offsets(pair, tap.features)
            base_latents = pair.base_walk.step(base_prediction, base_timestep, base_latents)
            with inject(pair.upgraded.unet, offsets, fusion=pair.adapter.fusion):
                prediction = _predict(pair.upgraded, pair.walk, latents, timestep, index)
            latents = pair.walk.step(prediction, timestep, latents)
            if observer is not None:
                record = StepRecord(
                    index,
                    timestep,
                    latents,
                    prediction,
                    base_latents,
                    base_prediction,
                    tap.features,
                    offsets,
                )
                observer(record)
    return latents


def _offsets(pair: _JointModels, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The mapper's offsets, scaled, with one row per row of the upgraded call.

    Guidance on one side only (ours): the conditional half serves an unguided upgraded model, and
    an unguided base model's features serve both halves.
    """
    mapper, scale = pair.adapter.mapper, pair.adapter.scale
    if pair.base.guidance.is_on and not pair.upgraded.guidance.is_on:
        features = tuple(feature.chunk(2)[1] for feature in features)
    cast = [feature.to(device=mapper.device, dtype=mapper.dtype) for feature in features]
    offsets = tuple(offset * scale for offset in mapper(cast))
    if pair.upgraded.guidance.is_on and not pair.base.guidance.is_on:
        offsets = tuple(torch.cat([offset] * 2) for offset in offsets)
    return offsets
