"""Two-stage sampling: plain functions over two denoisers.

Source: X-Adapter, arXiv 2312.02238, section 3.3. Stage 1 runs the base model with its plugin; the
hand-over (`xadapter.handover`) makes the first latents of stage 2 at t0; stage 2 runs both models
in lock-step, with the mapper's offsets. `xadapter.reference` is the same on one page. Legend:
b images, c channels, h height, w width; latents are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

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
    trajectory_of,
)
from xadapter.mapper import Mapper
from xadapter.placement import execution_device
from xadapter.presets import CORRECTED, Preset
from xadapter.solvers import Trajectory, noised, shared_grid, start_scale, with_generators
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
    whose noisy latents stage-1 mode "truncated" needs. Raises `SettingError` for a stochastic
    solver without `step_generators`, and for a t0 outside (0, 1].
    """
    trajectory = trajectory_of(base, preset, n_steps=n_steps)
    solver, noise = trajectory.solver, noise_bchw.to(base.device)
    # z_T: unit noise at the solver's own scale, or a noised picture (ControlNet tile)
    if source is None:
        latents = noise * start_scale(solver)
    else:
        latents = noised(solver, source.to(base.device), noise, solver.timesteps[0])
    # at t0 = M / N, stage 1 has taken N - M steps
    wanted = {n_steps - preset.n_last_steps(n_steps, t0) for t0 in snapshots_at}
    run = _Run(base, with_generators(trajectory, step_generators))
    latents, snapshots = _denoise_alone(run, latents, observer=observer, wanted=wanted)
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
    base_generators: Generators = None,
) -> Tensor:
    """Run the last M steps: both models in lock-step with a mapper, else the upgraded one alone.

    Offsets are multiplied by `adapter_scale` and added, or mixed in by a `fusion` weight. Without
    a mapper the base model never runs: that is SDEdit. Returns the upgraded model's final latents
    [b, c, h, w]. A stochastic solver of the base model draws from `base_generators`, by default
    from those of the upgraded one, in turns. Raises `SettingError` where a mapper comes without a
    base side, or where the two schedulers have different grids.
    """
    trajectory = trajectory_of(upgraded, preset, n_steps=start.n_steps, n_last=start.n_last_steps)
    run = _Run(upgraded, with_generators(trajectory, step_generators))
    latents = start.upgraded.to(upgraded.device)
    # without offsets the base model has no influence: SDEdit
    if mapper is None:
        return _denoise_alone(run, latents, observer=observer)[0]
    if base is None or start.base is None:
        raise SettingError("a mapper needs the base side: give base and a start with base latents")
    base_trajectory = _base_trajectory(base, start, preset)
    # features of another timestep would not fit the upgraded model's
    shared_grid(base_trajectory.solver.timesteps, trajectory.solver.timesteps)
    own_generators = step_generators if base_generators is None else base_generators
    base_run = _Run(base, with_generators(base_trajectory, own_generators))
    joint = _JointRun(base_run, run, mapper, adapter_scale, fusion)
    return joint.denoise(start.base.to(base.device), latents, observer)


def _base_trajectory(base: Denoiser, start: Stage2Start, preset: Preset) -> Trajectory:
    n_steps, n_last = start.n_steps, start.n_last_steps
    # a copy of stage 1's solver in the released presets: one start serves several runs
    solver = None if start.stage1_solver is None else preset.carry(start.stage1_solver)
    if solver is None:
        solver = trajectory_of(base, preset, n_steps=n_steps, n_last=n_last).solver
    timesteps = preset.base_steps(solver.timesteps, n_last, solver.order)
    position = n_steps - n_last if preset.window == "continued" else 0
    return Trajectory(solver, timesteps, n_steps, position)


@dataclass(frozen=True)
class _Run:
    """A model on its trajectory."""

    denoiser: Denoiser
    trajectory: Trajectory

    @cached_property
    def timesteps(self) -> Tensor:
        """The timesteps on the model's device."""
        return self.trajectory.timesteps.to(self.denoiser.device)

    def predict(self, latents: Tensor, timestep: Tensor, index: int) -> Tensor:
        """Return the guided prediction at the trajectory's timestep number `index`."""
        trajectory = self.trajectory
        # solvers that keep z / sqrt(abar) scale it back to z, the UNet's input
        scaled = trajectory.solver.scale_model_input(latents, timestep)
        # ControlNet windows count steps, and a solver of order k calls the model k times per step
        step = trajectory.first_step + index // trajectory.solver.order
        own = self.timesteps[index]
        return self.denoiser.predict(scaled, own, step=step, n_steps=trajectory.n_steps)


@torch.no_grad()
def _denoise_alone(
    run: _Run, latents: Tensor, *, observer: Observer | None, wanted: Collection[int] = ()
) -> tuple[Tensor, dict[int, Tensor]]:
    """Return the final latents, and those after each number of steps in `wanted`."""
    order = run.trajectory.solver.order
    snapshots = {0: latents} if 0 in wanted else {}
    for index, timestep in enumerate(run.trajectory.timesteps):
        prediction = run.predict(latents, timestep, index)
        latents = run.trajectory.step(prediction, timestep, latents)
        # between the calls of one step there are no latents of the trajectory
        n_done = (index + 1) // order
        if (index + 1) % order == 0 and n_done in wanted:
            snapshots[n_done] = latents
        if observer is not None:
            observer(StepRecord(index, timestep, latents, prediction))
    return latents, snapshots


@dataclass(frozen=True)
class _JointRun:
    """Both models in lock-step: offsets times `scale` are added, or mixed in by `fusion`."""

    base: _Run
    upgraded: _Run
    mapper: Mapper
    scale: float
    fusion: float | None

    @torch.no_grad()
    def denoise(self, base_latents: Tensor, latents: Tensor, observer: Observer | None) -> Tensor:
        """Return the upgraded model's final latents."""
        base, upgraded = self.base.trajectory, self.upgraded.trajectory
        # The two timesteps are equal but in the preset "released-lora".
        timesteps = zip(base.timesteps, upgraded.timesteps, strict=True)
        for index, (base_timestep, timestep) in enumerate(timesteps):
            # The base model predicts; its decoder's features F_base are read.
            with capture(self.base.denoiser.unet) as tap:
                base_prediction = self.base.predict(base_latents, base_timestep, index)
            # F_mapper = F(F_base), equation 2.
            offsets = self.offsets(tap.features)
            base_latents = base.step(base_prediction, base_timestep, base_latents)
            # The upgraded model predicts with F_up + F_mapper, equation 3.
            with inject(self.upgraded.denoiser.unet, offsets, fusion=self.fusion):
                prediction = self.upgraded.predict(latents, timestep, index)
            latents = upgraded.step(prediction, timestep, latents)
            if observer is not None:
                sides = (latents, prediction, base_latents, base_prediction)
                observer(StepRecord(index, timestep, *sides, tap.features, offsets))
        return latents

    def offsets(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the mapper's offsets, scaled, with one row per row of the upgraded call.

        Guidance on one side only (ours): the conditional half serves an unguided upgraded model,
        and an unguided base model's features serve both halves.
        """
        mapper = self.mapper
        base_is_guided = self.base.denoiser.guidance.is_on
        upgraded_is_guided = self.upgraded.denoiser.guidance.is_on
        # rows of a guided call: unconditional half first, conditional half second
        if base_is_guided and not upgraded_is_guided:
            features = tuple(feature.chunk(2)[1] for feature in features)
        # the three models may have three dtypes and two devices
        device = execution_device(mapper)
        cast = [feature.to(device=device, dtype=mapper.dtype) for feature in features]
        offsets = tuple(offset * self.scale for offset in mapper(cast))
        if upgraded_is_guided and not base_is_guided:
            offsets = tuple(torch.cat([offset] * 2) for offset in offsets)
        return offsets
