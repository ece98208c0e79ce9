"""Where features are read in the base UNet and where they act in the upgraded one.

Source: X-Adapter, arXiv 2312.02238, sections 3.3 and 4.1: the base decoder's last three blocks
guide the upgraded decoder. The sites are named per number of UNet levels, so that offset i meets a
feature map of the same side: with base latents of side S and upgraded latents of side 2S, the sides
are S/2, S and 2S. Sites of the encoders (ours) have the same sides as those of the decoders.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plugins_manifest.text import first_line
from xadapter.errors import MapperFitError, SiteError
from xadapter.modular_config import LEVELS, Half, Level
from xadapter.signals import change_of, mapped

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
    """Widths and sides at sites: `channels[i]`, `sides[i]` = (height, width)."""

    names: tuple[str, ...]
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


def read_names(mapper: nn.Module, base_unet: nn.Module) -> tuple[str, ...]:
    """Return the base modules that a mapper reads: its own `reads`, or those of the paper."""
    own = getattr(mapper, "reads", None)
    return tapped_names(base_unet) if own is None else tuple(own)


def write_names(mapper: nn.Module, upgraded_unet: nn.Module) -> tuple[str, ...]:
    """Return the upgraded modules that a mapper changes: its own `writes`, or the paper's."""
    own = getattr(mapper, "writes", None)
    return injected_names(upgraded_unet) if own is None else tuple(own)


def tapped_sites(base_unet: nn.Module) -> dict[tuple[Half, Level], str]:
    """Return the sites of a base UNet by half and level, of sides S/2, S and S."""
    decoder = tapped_names(base_unet)
    encoder = (_last_of_level(base_unet, 1), _last_of_level(base_unet, 0), "conv_in")
    return _by_place(encoder, decoder)


def injected_sites(upgraded_unet: nn.Module) -> dict[tuple[Half, Level], str]:
    """Return the sites of an upgraded UNet by half and level, of sides S/2, S and 2S."""
    decoder = injected_names(upgraded_unet)
    return _by_place([_last_of_level(upgraded_unet, i) for i in (2, 1, 0)], decoder)


def _by_place(encoder: Sequence[str], decoder: Sequence[str]) -> dict[tuple[Half, Level], str]:
    halves: dict[Half, Sequence[str]] = {"encoder": encoder, "decoder": decoder}
    return {
        (half, level): name
        for half, names in halves.items()
        for level, name in zip(LEVELS, names, strict=True)
    }


def _last_of_level(unet: nn.Module, level: int) -> str:
    """Return the last layer of an encoder's level before its sides are halved."""
    block = find_module(unet, f"down_blocks.{level}")
    kind = "attentions" if getattr(block, "attentions", None) else "resnets"
    layers: Any = getattr(block, kind)
    return f"down_blocks.{level}.{kind}.{len(layers) - 1}"


def hidden_of(output: Any) -> Tensor:
    """Return the features [b, c, h, w] in a module's output: of a tuple, the first."""
    return output[0] if isinstance(output, tuple) else output


def with_hidden(output: Any, hidden_bchw: Tensor) -> Any:
    """Return a module's output with other features."""
    if not isinstance(output, tuple):
        return hidden_bchw
    rest = output[1:]
    if rest and isinstance(rest[0], tuple) and rest[0] and rest[0][-1] is output[0]:
        # an encoder block: its last skip connection is the same tensor
        rest = ((*rest[0][:-1], hidden_bchw), *rest[1:])
    return (hidden_bchw, *rest)


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
    names: tuple[str, ...],
    *,
    latent_side: tuple[int, int] = (16, 16),
) -> SiteShapes:
    """Run `unet` on shapes alone (meta tensors, no arithmetic) and read the sites' outputs.

    `latent_side` is (height, width). The UNet is left as it was. Call it before plugins that need
    inputs of their own are attached. Raises `SiteError` for a site that is missing or never ran.
    """
    shapes: dict[str, torch.Size] = {}

    def remember(name: str) -> Any:
        return lambda _module, _inputs, output: shapes.update({name: hidden_of(output).shape})

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


class _Changed(nn.Module):
    """The shapes that a mapper makes of the features at its sites."""

    def __init__(self, mapper: nn.Module) -> None:
        super().__init__()
        self.mapper = mapper

    def forward(self, features: Sequence[Tensor], hidden: Sequence[Tensor]) -> list[torch.Size]:
        timestep = torch.empty((), device=features[0].device)
        signals = mapped(self.mapper, features, timestep)
        change = change_of(self.mapper)
        if change is not None:
            return [change(i, h, signals).shape for i, h in enumerate(hidden)]
        return [offset.shape for offset in signals]


def check_fit(
    mapper: nn.Module, base_unet: UNet2DConditionModel, upgraded_unet: UNet2DConditionModel
) -> None:
    """Raise `MapperFitError`, with both sets of numbers, unless the mapper fits the two UNets."""
    reads, writes = read_names(mapper, base_unet), write_names(mapper, upgraded_unet)
    base = site_shapes(base_unet, reads, latent_side=(16, 16))
    upgraded = site_shapes(upgraded_unet, writes, latent_side=(32, 32))
    problems = []
    own_in = getattr(mapper, "in_channels", base.channels)
    own_out = getattr(mapper, "out_channels", upgraded.channels)
    if own_in != base.channels:
        problems.append(
            f"the mapper takes widths {own_in}, the base UNet gives {base.channels} "
            f"at {', '.join(base.names)}"
        )
    if own_out != upgraded.channels:
        problems.append(
            f"the mapper returns widths {own_out}, the upgraded UNet has "
            f"{upgraded.channels} at {', '.join(upgraded.names)}"
        )
    if not problems:
        problems += _shape_problems(mapper, base, upgraded)
    if problems:
        raise MapperFitError("the mapper does not fit: " + "; ".join(problems))


def _shape_problems(mapper: nn.Module, base: SiteShapes, upgraded: SiteShapes) -> list[str]:
    """Return the differences of shapes, by a call of the mapper on shapes alone."""
    features, hidden = (
        [
            torch.empty(1, width, *side, device="meta")
            for width, side in zip(shapes.channels, shapes.sides, strict=True)
        ]
        for shapes in (base, upgraded)
    )
    probe = _Changed(mapper)
    tensors = {**dict(probe.named_parameters()), **dict(probe.named_buffers())}
    meta = {
        name: torch.empty_like(value, device="meta", dtype=torch.float32)
        for name, value in tensors.items()
    }
    try:
        with torch.no_grad():
            found = torch.func.functional_call(probe, meta, (features, hidden))
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
        return [f"it cannot be called with {base.channels} channels ({first_line(error)})"]
    if [tuple(shape) for shape in found] == [tuple(h.shape) for h in hidden]:
        return []
    return [
        f"for base latents of side 16 the offsets have sides "
        f"{tuple(tuple(shape[2:]) for shape in found)}, the upgraded UNet has "
        f"{upgraded.sides} for latents of side 32"
    ]
