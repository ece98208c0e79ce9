"""Architectures of the mapper by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from bench.train.schema import MapperSpec

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from xadapter.mapper import Mapper

# base UNet, upgraded UNet, options of the recipe -> a new mapper with random weights
MapperFactory = Callable[["UNet2DConditionModel", "UNet2DConditionModel", Mapping[str, Any]], Any]


def build_mapper(
    spec: MapperSpec,
    base_unet: UNet2DConditionModel,
    upgraded_unet: UNet2DConditionModel,
    *,
    seed: int,
) -> Mapper:
    """Return a new mapper between two UNets, its weights drawn from `seed`.

    Raises `UserError` for options that its class does not take.
    """
    import torch

    make = MAPPERS[spec.name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return make(base_unet, upgraded_unet, spec.options)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"the mapper {spec.name!r} cannot be made with {dict(spec.options)}: {error}"
            ) from error


def _released(
    base_unet: UNet2DConditionModel,
    upgraded_unet: UNet2DConditionModel,
    options: Mapping[str, Any],
) -> Mapper:
    """Return a mapper in the layout of the released checkpoint; option `n_blocks`."""
    from xadapter.mapper import Mapper
    from xadapter.sites import injected_names, site_shapes, tapped_names

    base = site_shapes(base_unet, tapped_names(base_unet))
    upgraded = site_shapes(upgraded_unet, injected_names(upgraded_unet), latent_side=(32, 32))
    return Mapper(in_channels=base.channels, out_channels=upgraded.channels, **options)


MAPPERS: Mapping[str, MapperFactory] = {"xadapter": _released}
