"""The architectures that come with the project: the released layout, and the modular mapper."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from xadapter.errors import MapperFitError
from xadapter.modular_config import (
    LEVELS,
    Blocks,
    Branch,
    Half,
    Level,
    ModularConfig,
    ModularOptions,
    Place,
    Site,
)

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from xadapter.mapper import Mapper
    from xadapter.modular import ModularMapper

_BASE_SIDE = (16, 16)  # of latents; the upgraded ones have twice as much
_UPGRADED_SIDE = (32, 32)


class ReleasedOptions(BaseModel):
    """Options of a recipe for the released layout."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    n_blocks: Blocks = 3


class Released:
    """The layout of the released checkpoint."""

    name = "xadapter"
    version = 1
    options = ReleasedOptions

    def configure(
        self,
        base_unet: UNet2DConditionModel,
        upgraded_unet: UNet2DConditionModel,
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the widths at the released sites, and the number of blocks."""
        from xadapter.sites import injected_names, site_shapes, tapped_names

        base = site_shapes(base_unet, tapped_names(base_unet), latent_side=_BASE_SIDE)
        upgraded = site_shapes(
            upgraded_unet, injected_names(upgraded_unet), latent_side=_UPGRADED_SIDE
        )
        return {
            "in_channels": base.channels,
            "out_channels": upgraded.channels,
            **ReleasedOptions.model_validate(options).model_dump(),
        }

    def build(self, config: Mapping[str, Any]) -> Mapper:
        """Return a mapper in the layout of the released checkpoint."""
        from xadapter.mapper import Mapper

        return Mapper(**config)


class Modular:
    """Sites, fusion and size as options (`xadapter.modular_config`)."""

    name = "modular"
    version = 1
    options = ModularOptions

    def configure(
        self,
        base_unet: UNet2DConditionModel,
        upgraded_unet: UNet2DConditionModel,
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the branches between the sites that the options name.

        A site is changed by what is read at the nearest level: of its own half where both halves
        are read and changed, else of all halves that are read.
        """
        from xadapter.sites import injected_sites, site_shapes, tapped_sites

        given = ModularOptions.model_validate(options)
        tapped, injected = tapped_sites(base_unet), injected_sites(upgraded_unet)
        reads = tuple(tapped[half, level] for half, level in _sites_of(given.read))
        writes = tuple(injected[half, level] for half, level in _sites_of(given.injected))
        base = site_shapes(base_unet, reads, latent_side=_BASE_SIDE)
        upgraded = site_shapes(upgraded_unet, writes, latent_side=_UPGRADED_SIDE)
        widths = {**dict(zip(reads, base.channels, strict=True))}
        sides = dict(zip(reads, base.sides, strict=True))
        branches = []
        for (half, level), name, channels, side in zip(
            _sites_of(given.injected), writes, upgraded.channels, upgraded.sides, strict=True
        ):
            sources = [tapped[place] for place in _sources(given, half, level)]
            doublings = _doublings([sides[source] for source in sources], side, name)
            branches.append(
                Branch(
                    reads=tuple(Site(name=s, channels=widths[s]) for s in sources),
                    write=Site(name=name, channels=channels),
                    # queries attend to maps of any size
                    doublings=0 if given.fusion == "cross-attention" else doublings,
                )
            )
        config = ModularConfig(
            branches=tuple(branches), **given.model_dump(exclude={"read", "inject"})
        )
        return config.model_dump(mode="json")

    def build(self, config: Mapping[str, Any]) -> ModularMapper:
        """Return a modular mapper; ValueError for a configuration out of bounds."""
        from xadapter.modular import ModularMapper

        return ModularMapper(ModularConfig.model_validate(config))


def _sites_of(place: Place) -> Sequence[tuple[Half, Level]]:
    ordered: list[Level] = [level for level in LEVELS if level in place.levels]
    return [(half, level) for half in place.halves for level in ordered]


def _sources(given: ModularOptions, half: Half, level: Level) -> Iterator[tuple[Half, Level]]:
    """Yield the base sites that act on a site of the upgraded model."""
    halves = given.read.halves
    own: tuple[Half, ...] = halves
    if len(halves) == len(given.injected.halves) == 2:
        own = (half,)
    wanted = LEVELS.index(level)
    nearest: Level = min(given.read.levels, key=lambda found: abs(LEVELS.index(found) - wanted))
    for found in own:
        yield found, nearest


def _doublings(read_sides: Sequence[tuple[int, int]], written: tuple[int, int], name: str) -> int:
    """Return log2 of the ratio of sides; `MapperFitError` where it is not a whole number."""
    sides = set(read_sides)
    ratio = written[0] / next(iter(sides))[0]
    if len(sides) != 1 or not math.log2(ratio).is_integer():
        raise MapperFitError(
            f"features with sides {sorted(sides)} cannot be mapped to {name} with sides {written}: "
            "read sites of one size, at a power of two of it"
        )
    return int(math.log2(ratio))


RELEASED, MODULAR = Released(), Modular()
