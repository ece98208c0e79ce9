"""Where stage 2 begins: the ways to make its first latents.

Source: X-Adapter, arXiv 2312.02238, two-stage denoising. "full" (what the released code does)
denoises the base latent to the end and noises it again; "truncated" (what the paper says) converts
the noisy base latent at t0. Legend: b images, c channels, h height, w width; latents are float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from xadapter.denoiser import Denoiser
from xadapter.errors import SettingError
from xadapter.presets import CORRECTED, Preset
from xadapter.solvers import input_scale, noised, start_scale, trajectory_from
from xadapter.vae import Bridge, cross_bridge


@dataclass(frozen=True)
class Stage1:
    """Result of stage 1: final latents [b, c, h, w], snapshots by number of steps taken.

    `solver` is the base solver as the stage left it.
    """

    latents: Tensor
    n_steps: int
    solver: Any
    snapshots: Mapping[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage2Start:
    """Noisy latents [b, c, h, w] of both sides at the first of the last M timesteps.

    `base` is None where the base model does not run. `base_solver` is what the preset carries over
    from stage 1 (None: stage 2 builds its own).
    """

    upgraded: Tensor
    base: Tensor | None
    n_steps: int
    n_last_steps: int
    base_solver: Any = None

    @property
    def t0(self) -> float:
        """Effective share M / N of the schedule that stage 2 runs."""
        return self.n_last_steps / self.n_steps


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
    """Stage-1 mode "full": noise the bridge's clean latents and stage 1's to t0.

    One stage 1 and one bridge serve every t0. Raises `SettingError` for t0 outside (0, 1].
    """
    start = sdedit_start(
        bridge.upgraded_latents,
        upgraded=upgraded,
        n_steps=stage1.n_steps,
        t0=t0,
        noise=upgraded_noise,
        preset=preset,
    )
    base_latents = _noised_to(
        base,
        stage1.latents,
        noise=base_noise,
        n_steps=stage1.n_steps,
        n_last=start.n_last_steps,
        preset=preset,
    )
    solver = preset.carry(stage1.solver)
    return Stage2Start(start.upgraded, base_latents, stage1.n_steps, start.n_last_steps, solver)


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
    latents = _noised_to(
        upgraded, clean_latents, noise=noise, n_steps=n_steps, n_last=n_last, preset=preset
    )
    return Stage2Start(latents, None, n_steps, n_last)


def hand_over_truncated(
    stage1: Stage1,
    *,
    base: Denoiser,
    upgraded: Denoiser,
    base_vae: Any,
    upgraded_vae: Any,
    t0: float,
    posterior_noise: Tensor,
    preset: Preset = CORRECTED,
) -> Stage2Start:
    """Stage-1 mode "truncated": z_up = E_up(D_base(z_base)) on the noisy latent at t0.

    Nothing is noised again, and the base latent goes on as it is. The decoded picture is not
    clamped. Raises `SettingError` where stage 1 took no snapshot at this t0.
    """
    n_last = preset.n_last_steps(stage1.n_steps, t0)
    n_done = stage1.n_steps - n_last
    if n_done not in stage1.snapshots:
        raise SettingError(
            f"stage 1 kept no latents after step {n_done} (t0 = {t0}); kept: "
            f"{sorted(stage1.snapshots)}: name this t0 in run_stage1(snapshots_at=...)"
        )
    noisy = stage1.snapshots[n_done]
    to_unit = {
        side: _input_scale_at(denoiser, preset, n_steps=stage1.n_steps, n_last=n_last)
        for side, denoiser in (("base", base), ("upgraded", upgraded))
    }
    bridge = cross_bridge(
        base_vae,
        upgraded_vae,
        noisy * to_unit["base"],
        posterior_noise=posterior_noise,
        resize=preset.resize,
        pixels="raw",
    )
    return Stage2Start(bridge.upgraded_latents / to_unit["upgraded"], noisy, stage1.n_steps, n_last)


def start_from_noise(
    *,
    upgraded: Denoiser,
    upgraded_noise: Tensor,
    n_steps: int,
    base: Denoiser | None = None,
    base_noise: Tensor | None = None,
    preset: Preset = CORRECTED,
) -> Stage2Start:
    """One-stage mode: no stage 1, both sides start from unit noise and walk the whole schedule."""
    latents = _first_latents(upgraded, upgraded_noise, n_steps=n_steps, preset=preset)
    base_latents = None
    if base is not None and base_noise is not None:
        base_latents = _first_latents(base, base_noise, n_steps=n_steps, preset=preset)
    return Stage2Start(latents, base_latents, n_steps, n_steps)


def _first_latents(side: Denoiser, noise: Tensor, *, n_steps: int, preset: Preset) -> Tensor:
    solver = preset.solver(side.scheduler, n_steps, side.device)
    return noise.to(side.device) * start_scale(solver)


def _noised_to(
    side: Denoiser, latents: Tensor, *, noise: Tensor, n_steps: int, n_last: int, preset: Preset
) -> Tensor:
    solver = preset.solver(side.scheduler, n_steps, side.device)
    walk = trajectory_from(solver, n_steps, first_step=n_steps - n_last)
    return noised(solver, latents.to(side.device), noise.to(side.device), walk.timesteps[0])


def _input_scale_at(side: Denoiser, preset: Preset, *, n_steps: int, n_last: int) -> float:
    solver = preset.solver(side.scheduler, n_steps, side.device)
    walk = trajectory_from(solver, n_steps, first_step=n_steps - n_last)
    return input_scale(solver, walk.timesteps[0], like=walk.timesteps)
