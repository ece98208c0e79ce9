"""Two-stage sampling: plain functions over two denoisers.

Source: X-Adapter, arXiv 2312.02238, section 3.3. Stage 1 runs the base model with its plugin; the
hand-over (`xadapter.handover`) makes the first latents of stage 2 at t0; stage 2 runs both models
in lock-step, with the mapper's offsets. `xadapter.reference` is the same on one page. Legend:
b images, c channels, h height, w width; latents are float32.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor, nn

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
from xadapter.lockstep import (
    Generators,
    Joint,
    Lockstep,
    Observer,
    Reader,
    Run,
    Stage2Trial,
    StepRecord,
    denoise_alone,
)
from xadapter.presets import CORRECTED, Preset
from xadapter.solvers import Trajectory, noised, shared_grid, start_scale, with_generators

__all__ = [
    "Conditions",
    "Control",
    "Denoiser",
    "Guidance",
    "Stage1",
    "Stage2Start",
    "Stage2Trial",
    "StepRecord",
    "hand_over",
    "hand_over_truncated",
    "run_alone",
    "run_stage1",
    "run_stage2",
    "run_stage2_together",
    "sdedit_start",
    "start_from_noise",
]

_NO_BASE_SIDE = "a mapper needs the base side: give base and a start with base latents"


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
    run = Run(base, with_generators(trajectory, step_generators), latents)
    latents, snapshots = denoise_alone(run, observer=observer, wanted=wanted)
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
    mapper: nn.Module | None = None,
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
    own_generators = step_generators if base_generators is None else base_generators
    scale = None if mapper is None else adapter_scale
    trial = Stage2Trial(start, scale, step_generators, own_generators)
    return run_stage2_together(
        upgraded,
        [trial],
        base=base,
        mapper=mapper,
        fusion=fusion,
        preset=preset,
        observer=observer,
    )[0]


def run_stage2_together(
    upgraded: Denoiser,
    trials: Sequence[Stage2Trial],
    *,
    base: Denoiser | None = None,
    mapper: nn.Module | None = None,
    fusion: float | None = None,
    preset: Preset = CORRECTED,
    observer: Observer | None = None,
    most: int = 1,
) -> list[Tensor]:
    """Run the last steps of several trials of the same images in lock-step.

    The base model runs once for all trials with one start object, and a mapper once for those of
    them that read by it: `mapper`, or a trial's own. Returns the final
    latents of each, equal bit for bit to those of `run_stage2`; with `most` above 1, up to so many
    trials share a call of a model, and the latents are equal up to rounding.
    """
    if not trials:
        return []
    runs = [_upgraded_run(upgraded, trial, preset) for trial in trials]
    joints: dict[int, tuple[Run, list[Reader]]] = {}
    for trial, run in zip(trials, runs, strict=True):
        if trial.adapter_scale is None:  # without offsets the base model has no influence: SDEdit
            continue
        own, key = trial.mapper or mapper, id(trial.start)
        if own is None:
            raise SettingError(_NO_BASE_SIDE)
        if key not in joints:
            joints[key] = _base_run(base, trial, run, preset), []
        joints[key][1].append(Reader(run, trial.adapter_scale, own))
    alone = [r for t, r in zip(trials, runs, strict=True) if t.adapter_scale is None]
    Lockstep(
        upgraded,
        [Joint(*joint) for joint in joints.values()],
        alone,
        fusion=fusion,
        observer=observer,
        most=most,
    ).run()
    return [run.latents for run in runs]


def _upgraded_run(upgraded: Denoiser, trial: Stage2Trial, preset: Preset) -> Run:
    start = trial.start
    trajectory = trajectory_of(upgraded, preset, n_steps=start.n_steps, n_last=start.n_last_steps)
    trajectory = with_generators(trajectory, trial.step_generators)
    return Run(upgraded, trajectory, start.upgraded.to(upgraded.device))


def _base_run(base: Denoiser | None, trial: Stage2Trial, run: Run, preset: Preset) -> Run:
    if base is None or trial.start.base is None:
        raise SettingError(_NO_BASE_SIDE)
    trajectory = _base_trajectory(base, trial.start, preset)
    # features of another timestep would not fit the upgraded model's
    shared_grid(trajectory.solver.timesteps, run.trajectory.solver.timesteps)
    trajectory = with_generators(trajectory, trial.base_generators)
    return Run(base, trajectory, trial.start.base.to(base.device))


def _base_trajectory(base: Denoiser, start: Stage2Start, preset: Preset) -> Trajectory:
    n_steps, n_last = start.n_steps, start.n_last_steps
    # a copy of stage 1's solver in the released presets: one start serves several runs
    solver = None if start.stage1_solver is None else preset.carry(start.stage1_solver)
    if solver is None:
        solver = trajectory_of(base, preset, n_steps=n_steps, n_last=n_last).solver
    timesteps = preset.base_steps(solver.timesteps, n_last, solver.order)
    position = n_steps - n_last if preset.window == "continued" else 0
    return Trajectory(solver, timesteps, n_steps, position)
