"""Delta Sampling: the plugin's change of the base model's x0 is added to the upgraded model's x0.

Source: Delta Sampling, arXiv 2512.03056, in the form of its released sampler: one state of base
and upgraded latents, three predictions a step, and both latents follow the same sum. Route
"latent" is that form. Route "pixel" (ours) makes the sum in pictures, for two models whose VAEs or
sizes differ; the start at t0 (ours) is that of SDEdit. Legend: b images, c channels, h height,
w width; latents and pictures are float32; x is the base latent, z the upgraded one; s, a and u are
the clean latents (x0) that the base model without its plugin, with it, and the upgraded model
predict.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from xadapter.denoiser import Denoiser
from xadapter.errors import SettingError
from xadapter.handover import Stage2Start, trajectory_of
from xadapter.lockstep import Generators, Run, predict_together
from xadapter.presets import CORRECTED, Preset
from xadapter.solvers import Clean, clean_at, paired_grids, with_generators
from xadapter.vae import (
    Resize,
    decode_image,
    encode_mean,
    pixels_per_latent,
    raw_latents,
    resize_float,
    scaled_latents,
)

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

Bounded = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class BasePair:
    """The base model without its plugin and with it, on the same latents of b images.

    `plain` and `plugged` are denoisers of b images. Where the plugin acts by inputs alone (texts,
    residuals), `joined` is one of 2b images, the plain ones first, and a step is one call. Where it
    changes the network, `taken_off` takes it off for a while, and a step is two calls.
    """

    plain: Denoiser
    plugged: Denoiser
    joined: Denoiser | None = None
    taken_off: Callable[[], AbstractContextManager[None]] = nullcontext

    def predict(self, run: Run, n_left: int) -> tuple[Tensor, Tensor]:
        """Return both predictions [b, c, h, w] at the timestep from which so many are left."""
        index, trajectory = run.index_at(n_left), run.trajectory
        scaled = trajectory.solver.scale_model_input(run.latents, trajectory.timesteps[index])
        at = {"step": run.schedule_step(index), "n_steps": trajectory.n_steps}
        timestep = run.timesteps[index]
        if self.joined is not None:
            both = self.joined.predict(torch.cat([scaled] * 2), timestep, **at)
            plain, plugged = both.chunk(2)
            return plain, plugged
        with self.taken_off():
            plain = self.plain.predict(scaled, timestep, **at)
        return plain, self.plugged.predict(scaled, timestep, **at)


class Route(Protocol):
    """A way from the base model's latents to the upgraded model's."""

    def summed(
        self, u: Tensor, s: Tensor, a: Tensor, *, strength: float, bounded: Bounded
    ) -> tuple[Tensor, Tensor]:
        """Return the clean latents that z and x follow.

        `bounded(change, target)` limits what is added to what the upgraded model predicts.
        """
        ...


@dataclass(frozen=True)
class LatentRoute:
    """The published form, for models whose VAEs have one latent space, at one latent size."""

    base_vae: AutoencoderKL
    upgraded_vae: AutoencoderKL

    def summed(
        self, u: Tensor, s: Tensor, a: Tensor, *, strength: float, bounded: Bounded
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of raw latents, in either model's scaling."""
        target = raw_latents(self.upgraded_vae, u)
        change = raw_latents(self.base_vae, a) - raw_latents(self.base_vae, s)
        # y = t* + lambda (a* - s*)
        y = target + bounded(strength * change.to(target.device), target)
        return scaled_latents(self.upgraded_vae, y), scaled_latents(self.base_vae, y)


def latent_problem(base_vae: AutoencoderKL, upgraded_vae: AutoencoderKL) -> str | None:
    """Return why latents of two VAEs cannot be added; None if their shapes agree.

    Whether equal shapes mean equal pictures is not known: two VAEs that were trained apart differ.
    """
    facts = [
        (f"{vae.config['latent_channels']} channels", f"1 to {pixels_per_latent(vae)} px")
        for vae in (base_vae, upgraded_vae)
    ]
    if facts[0] == facts[1]:
        return None
    base, upgraded = (" at ".join(own) for own in facts)
    return (
        f"the route 'latent' adds latents of one shape; the base VAE's have {base}, the upgraded "
        f"VAE's {upgraded}: use the route 'pixel'"
    )


@dataclass(frozen=True)
class PixelRoute:
    """The sum in pictures (ours): for any two VAEs and sizes."""

    base_vae: AutoencoderKL
    upgraded_vae: AutoencoderKL
    resize: Resize = resize_float

    def summed(
        self, u: Tensor, s: Tensor, a: Tensor, *, strength: float, bounded: Bounded
    ) -> tuple[Tensor, Tensor]:
        """Return the encoded sum; the base model follows the same picture at its own size."""
        base_factor = pixels_per_latent(self.base_vae)
        base_size_px = [side * base_factor for side in s.shape[-2:]]
        target = decode_image(self.upgraded_vae, u)
        plain, plugged = decode_image(self.base_vae, torch.cat([s, a])).chunk(2)
        change = self.resize(plugged - plain, *target.shape[-2:]).to(target.device)
        # p = D_up(u) + lambda (D(a) - D(s))
        picture = target + bounded(strength * change, target)
        # u + E_up(p) - E_up(D_up(u)): the VAE's own error is in both, and cancels
        moved, still = encode_mean(self.upgraded_vae, torch.cat([picture, target])).chunk(2)
        return u + moved - still, encode_mean(self.base_vae, self.resize(picture, *base_size_px))


def within(bound: float | None) -> Bounded:
    """Return a limit on the norm of the change, relative to the target's deviation (ours).

    Each image's change is shortened to `bound` times the norm of its target less the mean of each
    channel, where it is longer; None is no limit.
    """

    def bounded(change: Tensor, target: Tensor) -> Tensor:
        if bound is None:
            return change
        spread = target - target.mean(dim=(2, 3), keepdim=True)
        most = bound * spread.flatten(1).norm(dim=1)
        norm = change.flatten(1).norm(dim=1)
        factor = (most / norm.clamp(min=torch.finfo(norm.dtype).tiny)).clamp(max=1.0)
        return change * factor.view(-1, 1, 1, 1)

    return bounded


@torch.no_grad()
def run_delta(
    upgraded: Denoiser,
    base: BasePair,
    start: Stage2Start,
    *,
    route: Route,
    strength: Callable[[float], float],
    bound: float | None = None,
    preset: Preset = CORRECTED,
    step_generators: Generators = None,
    base_generators: Generators = None,
) -> Tensor:
    """Run the last M steps of both models; return the upgraded model's final latents [b, c, h, w].

    `strength` gives lambda of a step by the share of the whole schedule that is left, this step
    included; after its last value above 0 the upgraded model runs alone. Raises `SettingError` for
    a start without base latents, and for two grids of timesteps that cannot be walked in pairs.
    """
    if start.base is None:
        raise SettingError("delta needs the base side: give a start with base latents")
    z = _run(upgraded, start, start.upgraded, preset, step_generators)
    x = _run(base.plugged, start, start.base, preset, base_generators)
    paired_grids(x.trajectory, z.trajectory)
    n_steps = start.n_steps
    strengths = [strength(1 - z.schedule_step(i) / n_steps) for i in range(len(z.timesteps))]
    n_joint = max((i + 1 for i, value in enumerate(strengths) if value != 0.0), default=0)
    for index, value in enumerate(strengths):
        n_left = len(strengths) - index
        prediction = predict_together([z], n_left)[0]
        if index < n_joint:
            z_clean, x_clean = _clean_of(z, n_left), _clean_of(x, n_left)
            s, a = (x_clean.of(one, x.latents) for one in base.predict(x, n_left))
            u = z_clean.of(prediction, z.latents)
            y_z, y_x = route.summed(u, s, a, strength=value, bounded=within(bound))
            prediction = z_clean.prediction(y_z, z.latents)
            # synced: the base model goes on from the same picture
            x.step(x_clean.prediction(y_x, x.latents), n_left)
        z.step(prediction, n_left)
    return z.latents


def _run(
    side: Denoiser, start: Stage2Start, latents: Tensor, preset: Preset, generators: Generators
) -> Run:
    at_t0 = {"n_steps": start.n_steps, "n_last": start.n_last_steps}
    trajectory = with_generators(trajectory_of(side, preset, **at_t0), generators)
    return Run(side, trajectory, latents.to(side.device))


def _clean_of(run: Run, n_left: int) -> Clean:
    timestep = run.trajectory.timesteps[run.index_at(n_left)]
    return clean_at(run.trajectory.solver, timestep)
