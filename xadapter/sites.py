"""Where features are read in the base UNet and where offsets are put in the upgraded one.

Source: X-Adapter, arXiv 2312.02238, sections 3.3 and 4.1: the base decoder's last three blocks
guide the upgraded decoder. The sites are named per number of UNet levels, so that offset i meets a
feature map of the same side: with base latents of side S and upgraded latents of side 2S, the sides
are S/2, S and 2S.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xadapter.errors import MapperFitError, SiteError
from xadapter.mapper import Mapper

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

TAPPED: Mapping[int, tuple[str, str, str]] = {
    4: ("up_blocks.1", "up_blocks.2", "up_blocks.3"),
}
INJECTED: Mapping[int, tuple[str, str, str]] = {
    3: ("mid_block", "up_blocks.0", "up_blocks.1"),
    4: ("up_blocks.0", "up_blocks.1", "up_blocks.2"),  # ours: SD 2.1, same sides and widths
}


@dataclass(frozen=True)
class SiteShapes:
    """Widths and sides at three sites: `channels[i]`, `sides[i]` = (height, width)."""

    names: tuple[str, str, str]
    channels: tuple[int, ...]
    sides: tuple[tuple[int, int], ...]


def tapped_names(base_unet: nn.Module) -> tuple[str, str, str]:
    """Return the names of the base modules whose outputs the mapper reads."""
    return _names_for(base_unet, TAPPED, "base")


def injected_names(upgraded_unet: nn.Module) -> tuple[str, str, str]:
    """Return the names of the upgraded modules to whose outputs the offsets are added."""
    return _names_for(upgraded_unet, INJECTED, "upgraded")


def _names_for(
    unet: nn.Module, table: Mapping[int, tuple[str, str, str]], side: str
) -> tuple[str, str, str]:
    n_levels = len(getattr(unet, "up_blocks", ()))
    if n_levels not in table:
        raise SiteError(
            f"the {side} UNet ({type(unet).__name__}) has {n_levels} up_blocks; X-Adapter knows "
            f"{side} UNets with {sorted(table)}"
        )
    return table[n_levels]


def find_module(unet: nn.Module, name: str) -> nn.Module:
    """Return the submodule `name`; raise `SiteError`, naming the nearest, if it is missing."""
    modules = dict(unet.named_modules())
    if name not in modules or not name:
        nearest = difflib.get_close_matches(name, [n for n in modules if n], n=3, cutoff=0.0)
        raise SiteError(
            f"{type(unet).__name__} has no module {name!r}; nearest: {', '.join(nearest)}"
        )
    return modules[name]


def site_shapes(
    unet: UNet2DConditionModel,
    names: tuple[str, str, str],
    *,
    latent_side: tuple[int, int] = (16, 16),
) -> SiteShapes:
    """Run `unet` on shapes alone (meta tensors, no arithmetic) and read the sites' outputs.

    `latent_side` is (height, width). The UNet is left as it was. Call it before plugins that need
    inputs of their own are attached. Raises `SiteError` for a site that is missing or never ran.
    """
    shapes: dict[str, torch.Size] = {}

    def remember(name: str) -> Any:
        return lambda _module, _inputs, output: shapes.update({name: output.shape})

    with ExitStack() as handles:
        for name in names:
            module = find_module(unet, name)
            handles.enter_context(module.register_forward_hook(remember(name)))
        _meta_forward(unet, latent_side)
    missing = [name for name in names if name not in shapes]
    if missing:
        raise SiteError(f"a forward of {type(unet).__name__} never ran {', '.join(missing)}")
    return SiteShapes(
        names=names,
        channels=tuple(shapes[name][1] for name in names),
        sides=tuple((shapes[name][2], shapes[name][3]) for name in names),
    )


def _meta_forward(unet: UNet2DConditionModel, latent_side: tuple[int, int]) -> None:
    config: Any = unet.config
    # meta copies of the weights: the UNet itself is neither moved nor computed with
    tensors = {**dict(unet.named_parameters()), **dict(unet.named_buffers())}
    meta = {name: torch.empty_like(value, device="meta") for name, value in tensors.items()}

    def empty(*shape: int) -> Tensor:
        return torch.empty(*shape, dtype=unet.dtype, device="meta")

    width = config.cross_attention_dim
    width = width[0] if isinstance(width, (list, tuple)) else width
    kwargs: dict[str, Any] = {"encoder_hidden_states": empty(1, 2, width), "return_dict": False}
    if config.addition_embed_type == "text_time":  # SDXL: pooled text and six time ids
        n_ids = 6
        pooled = config.projection_class_embeddings_input_dim - (
            n_ids * config.addition_time_embed_dim
        )
        kwargs["added_cond_kwargs"] = {"text_embeds": empty(1, pooled), "time_ids": empty(1, n_ids)}
    timestep = torch.empty((), dtype=torch.int64, device="meta")
    sample = empty(1, config.in_channels, *latent_side)
    with torch.no_grad():
        torch.func.functional_call(unet, meta, (sample, timestep), kwargs)


def check_fit(
    mapper: Mapper, base_unet: UNet2DConditionModel, upgraded_unet: UNet2DConditionModel
) -> None:
    """Raise `MapperFitError`, with both sets of numbers, unless the mapper fits the two UNets."""
    base = site_shapes(base_unet, tapped_names(base_unet), latent_side=(16, 16))
    upgraded = site_shapes(upgraded_unet, injected_names(upgraded_unet), latent_side=(32, 32))
    problems = []
    if mapper.in_channels != base.channels:
        problems.append(
            f"the mapper takes widths {mapper.in_channels}, the base UNet gives {base.channels} "
            f"at {', '.join(base.names)}"
        )
    if mapper.out_channels != upgraded.channels:
        problems.append(
            f"the mapper returns widths {mapper.out_channels}, the upgraded UNet has "
            f"{upgraded.channels} at {', '.join(upgraded.names)}"
        )
    # branch 2 doubles its sides
    mapped = (*base.sides[:2], (2 * base.sides[2][0], 2 * base.sides[2][1]))
    if mapped != upgraded.sides:
        problems.append(
            f"for base latents of side 16 the offsets have sides {mapped}, the upgraded UNet has "
            f"{upgraded.sides} for latents of side 32"
        )
    if problems:
        raise MapperFitError("the mapper does not fit: " + "; ".join(problems))
