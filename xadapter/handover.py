"""First latents of stage 2, in four ways.

Source: X-Adapter, arXiv 2312.02238, section 3.3, equation 5 (two-stage inference). Mode "full"
(what the released code does) denoises the base latent to the end and noises it again; "truncated"
(what the paper says) converts the noisy base latent at t0. Legend: b images, c channels, h height,
w width; latents are float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from xadapter.denoiser import Denoiser
from xadapter.errors import SettingError
from xadapter.presets import CORRECTED, Preset
from xadapter.solvers import (
    Solver,
    Trajectory,
    input_scale,
    noised,
    start_scale,
    trajectory_from,
)
from xadapter.vae import Bridge, cross_bridge

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@dataclass(frozen=True)
class Stage1:
    """Result of stage 1: final latents [b, c, h, w], and snapshots by number of steps taken.

    `solver` is the base solver as the stage left it.
    """

    latents: Tensor
    n_steps: int
    solver: Solver
    snapshots: Mapping[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage2Start:
    """Noisy latents [b, c, h, w] of both sides at the first of the last M timesteps.

    `base` is None where the base model does not run. `stage1_solver` is the base solver as stage 1
    left it, for presets that carry its history over.
    """

    upgraded: Tensor
    base: Tensor | None
    n_steps: int
    n_last_steps: int
    stage1_solver: Solver | None = None

    @property
    def t0(self) -> float:
        """Effective share M / N of the schedule that stage 2 runs."""
        return self.n_last_steps / self.n_steps


def trajectory_of(
    side: Denoiser, preset: Preset, *, n_steps: int, n_last: int | None = None
) -> Trajectory:
    """Build a side's solver and start it at the first of the last `n_last` steps (None: all N)."""
    # A new solver for each pass: solvers keep a history and a step index. Its few numbers are on
    # the CPU: those that a solver looks up by its timestep would each wait for a GPU.
    solver = preset.solver(side.scheduler, n_steps, "cpu")
    first_step = 0 if n_last is None else n_steps - n_last
    return trajectory_from(solver, n_steps, first_step=first_step)


def hand_over(
    stage1: Stage1,
    bridge: Bridge,
    *,
    base: Denoiser,
    upgraded: Denoiser,
    t0: float,
    upgraded_noise: Tensor,
    base_noise: Tensor,
    preset: Preset = CORRECTED,
) -> Stage2Start:
    """Start stage 2 in mode "full": noise the bridge's clean latents and stage 1's to t0.

    One stage 1 and one bridge serve every t0. Raises `SettingError` for t0 outside (0, 1].
    """
    n_steps, n_last = stage1.n_steps, preset.n_last_steps(stage1.n_steps, t0)
    at_t0 = {"n_steps": n_steps, "n_last": n_last}
    # z'_t0 and z_t0, each by its own side's schedule; the noises differ, as in training
    latents = _noised_to(upgraded, preset, bridge.upgraded_latents, upgraded_noise, **at_t0)
    base_latents = _noised_to(base, preset, stage1.latents, base_noise, **at_t0)
    return Stage2Start(latents, base_latents, n_steps, n_last, stage1.solver)


def sdedit_start(
    clean_latents: Tensor,
    *,
    upgraded: Denoiser,
    n_steps: int,
    t0: float,
    noise: Tensor,
    preset: Preset = CORRECTED,
) -> Stage2Start:
    """Noise clean upgraded latents to t0, for the upgraded model alone (SDEdit, 2108.01073)."""
    n_last = preset.n_last_steps(n_steps, t0)
    # z'_t0 = sqrt(abar) z' + sqrt(1 - abar) e
    latents = _noised_to(upgraded, preset, clean_latents, noise, n_steps=n_steps, n_last=n_last)
    return Stage2Start(latents, None, n_steps, n_last)


def hand_over_truncated(
    stage1: Stage1,
    *,
    base: Denoiser,
    upgraded: Denoiser,
    base_vae: AutoencoderKL,
    upgraded_vae: AutoencoderKL,
    t0: float,
    posterior_noise: Tensor,
    preset: Preset = CORRECTED,
) -> Stage2Start:
    """Start stage 2 in mode "truncated": equation 5 on the noisy latent at t0.

    Nothing is noised again, and the base latent goes on as it is. The decoded picture is not
    clamped. Raises `SettingError` where stage 1 took no snapshot at this t0.
    """
    n_steps, n_last = stage1.n_steps, preset.n_last_steps(stage1.n_steps, t0)
    n_done = n_steps - n_last
    if n_done not in stage1.snapshots:
        raise SettingError(
            f"stage 1 kept no latents after step {n_done} (t0 = {t0}); kept: "
            f"{sorted(stage1.snapshots)}: name this t0 in run_stage1(snapshots_at=...)"
        )
    noisy = stage1.snapshots[n_done]
    # the VAEs are for z: latents of solvers that keep z / sqrt(abar) are converted, and back
    base_factor, factor = (
        _input_scale_of(side, preset, n_steps=n_steps, n_last=n_last) for side in (base, upgraded)
    )
    # z'_t0 = E_up(D_base(z_t0)), equation 5
    bridge = cross_bridge(
        base_vae,
        upgraded_vae,
        noisy * base_factor,
        posterior_noise=posterior_noise,
        resize=preset.resize,
        pixels="raw",
    )
    return Stage2Start(bridge.upgraded_latents / factor, noisy, n_steps, n_last)


def start_from_noise(
    *,
    upgraded: Denoiser,
    upgraded_noise: Tensor,
    n_steps: int,
    base: Denoiser | None = None,
    base_noise: Tensor | None = None,
    preset: Preset = CORRECTED,
) -> Stage2Start:
    """Start both sides from unit noise, over all N steps (one stage, figure 3a of the paper)."""
    latents = _first_latents(upgraded, preset, upgraded_noise, n_steps=n_steps)
    base_latents = None
    if base is not None and base_noise is not None:
        base_latents = _first_latents(base, preset, base_noise, n_steps=n_steps)
    return Stage2Start(latents, base_latents, n_steps, n_steps)


def _first_latents(side: Denoiser, preset: Preset, noise: Tensor, *, n_steps: int) -> Tensor:
    solver = trajectory_of(side, preset, n_steps=n_steps).solver
    return noise.to(side.device) * start_scale(solver)


def _noised_to(
    side: Denoiser, preset: Preset, latents: Tensor, noise: Tensor, *, n_steps: int, n_last: int
) -> Tensor:
    trajectory = trajectory_of(side, preset, n_steps=n_steps, n_last=n_last)
    latents, noise = latents.to(side.device), noise.to(side.device)
    return noised(trajectory.solver, latents, noise, trajectory.timesteps[0])


def _input_scale_of(side: Denoiser, preset: Preset, *, n_steps: int, n_last: int) -> float:
    trajectory = trajectory_of(side, preset, n_steps=n_steps, n_last=n_last)
    timesteps = trajectory.timesteps
    return input_scale(trajectory.solver, timesteps[0], like=timesteps)
