"""Check that a plugin changes predictions: compare a small one with and without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from plugins_manifest.errors import UserError
from plugins_manifest.text import first_line
from runners.audit import Audit, AuditRow, PluginNotAppliedError
from runners.families import Family
from runners.families.family import network_of, text_encoders
from runners.plugins.attachment import Attachment, LoadedPlugin, with_attachment
from xadapter.denoiser import Control, Denoiser
from xadapter.guidance import Guidance
from xadapter.inputs import upgraded_conditions
from xadapter.placement import execution_device
from xadapter.vae import pixels_per_latent

OUTPUT = "output"
_SIDE, _TIMESTEP = 8, 500
_UNGUIDED = Guidance(1.0)


def require_effect(
    plugin: LoadedPlugin, family: Family, rows: Sequence[AuditRow], *, prompt: str = ""
) -> Audit:
    """Return the audit of the rows and one for the output; `prompt` is used for the prediction.

    Raises `PluginNotAppliedError` for a plugin that changes nothing, or whose output is not
    finite.
    """
    change = output_change(plugin, family, prompt=prompt)
    reason = None if 0.0 < change < float("inf") else "non-finite" if change else "no-change"
    output = AuditRow(OUTPUT, "effect", applied=change, missing=reason is not None, reason=reason)
    audit = Audit((*rows, output))
    if reason is not None:
        what = "gives values that are not finite" if change else "changes nothing"
        raise PluginNotAppliedError(
            f"plugin {plugin.file.plugin_id!r} {what} in the {plugin.file.side} model of "
            f"{family.name!r}: use a trained file made for it",
            audit,
        )
    return audit


def output_change(plugin: LoadedPlugin, family: Family, *, prompt: str = "") -> float:
    """Return the norm of the change of a prediction, relative to that without the plugin.

    Latents of side 8; condition and reference images are random with a fixed seed. Infinite if
    a value is not finite.
    """
    pipe: Any = family.pipe(plugin.file.side)
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, pipe.vae.config.latent_channels, _SIDE, _SIDE, generator=generator)
    side_px = _SIDE * pixels_per_latent(pipe.vae)
    image = torch.rand(1, 3, side_px, side_px, generator=generator)
    plain = _predict(pipe, sample, image, Attachment(), prompt)
    with plugin.attached(family, strength=1.0) as attachment:
        try:
            changed = _predict(pipe, sample, image, attachment, prompt)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"plugin {plugin.file.plugin_id!r} fits the {plugin.file.side} model of "
                f"{family.name!r} by its layers, and fails in it ({first_line(error)}): use one "
                "made for this model"
            ) from error
    if not bool(torch.isfinite(changed).all()):
        return float("inf")
    return float((changed - plain).norm() / plain.norm())


@torch.no_grad()
def _predict(pipe: Any, sample: Tensor, image: Tensor, attachment: Attachment, prompt: str) -> Any:
    network, side_px = network_of(pipe), image.shape[-1]
    device = execution_device(network)
    text = attachment.rewrite_prompt(prompt)
    with text_encoders(pipe):
        # without a second encoder these are the conditions of the base side
        conditions = upgraded_conditions(pipe, [text], None, _UNGUIDED, (side_px, side_px))
    pixels = (image[0].permute(1, 2, 0) * 255).byte().numpy()
    conditions = with_attachment(
        conditions, attachment, images=lambda _: image.to(device), references=[pixels], guided=False
    )
    controls = tuple(Control(c.net, image.to(device), c.scale) for c in attachment.controls)
    denoiser = Denoiser(network, pipe.scheduler, conditions, _UNGUIDED, controls)
    timestep = torch.tensor(_TIMESTEP, device=device)
    return denoiser.predict(sample.to(device), timestep, step=0, n_steps=1)
