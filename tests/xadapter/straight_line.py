"""The whole method in one script, without any of the sampler's parts, as a reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xadapter.denoiser import Conditions
from xadapter.noise import Noise


def straight_line(
    models: Any,
    mapper: Any,
    *,
    conditions: tuple[Conditions, Conditions],
    noise: Noise,
    new_solver: Callable[[], Any],
    n_steps: int,
    n_last: int,
    guidance: float,
    scale: float = 1.0,
) -> Tensor:
    """Final upgraded latents of one image, preset "sound", stage 1 in full."""
    base, up, g = models.base_unet, models.upgraded_unet, guidance
    b: Any
    u: Any
    b, u = conditions
    base_text = torch.cat([b.negative_text, b.text])
    up_text = torch.cat([u.negative_text, u.text])
    added = {
        "text_embeds": torch.cat([u.negative_pooled, u.pooled]),
        "time_ids": torch.cat([u.time_ids] * 2),
    }
    seen: dict[int, Tensor] = {}
    extra: dict[int, Tensor] = {}
    handles = [
        block.register_forward_hook(lambda _m, _i, o, k=k: seen.__setitem__(k, o))
        for k, block in enumerate(base.up_blocks[1:])
    ]
    handles += [
        block.register_forward_hook(lambda _m, _i, o, k=k: o + extra[k] if extra else o)
        for k, block in enumerate([up.mid_block, up.up_blocks[0], up.up_blocks[1]])
    ]

    def base_step(solver: Any, t: Tensor, x: Tensor) -> Tensor:
        rows = torch.cat([solver.scale_model_input(x, t)] * 2)
        e = base(rows, t, encoder_hidden_states=base_text).sample
        return solver.step(e[:1] + g * (e[1:] - e[:1]), t, x).prev_sample

    with torch.no_grad():
        solver = new_solver()
        solver.set_timesteps(n_steps)
        x = noise.base_start * solver.init_noise_sigma
        for t in solver.timesteps:
            x = base_step(solver, t, x)
        image = models.base_vae.decode(x / 0.18215).sample.clamp(-1, 1)
        image = F.interpolate(image, scale_factor=2, mode="bicubic", antialias=True)
        posterior = models.upgraded_vae.encode(image).latent_dist
        z = (posterior.mean + posterior.std * noise.upgraded_posterior) * 0.13025

        base_solver, solver = new_solver(), new_solver()
        for each in (base_solver, solver):
            each.set_timesteps(n_steps)
        timesteps = solver.timesteps[(n_steps - n_last) * solver.order :]
        z = solver.add_noise(z, noise.upgraded_noise, timesteps[:1])
        x = solver.add_noise(x, noise.base_noise, timesteps[:1])
        for t in timesteps:
            extra.clear()
            x = base_step(base_solver, t, x)
            offsets = mapper([seen[0], seen[1], seen[2]])
            extra.update({k: scale * offset for k, offset in enumerate(offsets)})
            rows = torch.cat([solver.scale_model_input(z, t)] * 2)
            e = up(rows, t, encoder_hidden_states=up_text, added_cond_kwargs=added).sample
            z = solver.step(e[:1] + g * (e[1:] - e[:1]), t, z).prev_sample
    for handle in handles:
        handle.remove()
    return z
