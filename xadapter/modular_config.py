"""What a modular mapper can be: the options of a recipe, and the configuration in its file.

Sites are named by side (`decoder`, `encoder`) and level (`coarse`, `middle`, `fine`: S/2, S, S on
the base side for latents of side S; S/2, S, 2S on the upgraded side). Imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from plugins_manifest.schema.numbers import Whole

Fusion = Literal["add", "spade", "film", "cross-attention"]
Half = Literal["decoder", "encoder"]
Level = Literal["coarse", "middle", "fine"]
LEVELS: tuple[Level, ...] = ("coarse", "middle", "fine")
_MOST_CHANNELS = 8192

Channels = Annotated[Whole, Field(ge=1, le=_MOST_CHANNELS)]
Blocks = Annotated[Whole, Field(ge=1, le=16)]
SiteName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.]*$", max_length=80)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Place(_Part):
    """Halves of a UNet, and the levels in them."""

    place: Literal["decoder", "encoder", "both"] = "decoder"
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = LEVELS

    @field_validator("levels")
    @classmethod
    def _check_levels(cls, value: tuple[Level, ...]) -> tuple[Level, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"{', '.join(value)}: name each level once")
        return value

    @property
    def halves(self) -> tuple[Half, ...]:
        """The halves, each once."""
        return ("encoder", "decoder") if self.place == "both" else (self.place,)


def _named(value: Any) -> Any:
    """Read `decoder` as `{place: decoder}`."""
    return {"place": value} if isinstance(value, str) else value


class ModularOptions(_Part):
    """Options of a recipe. `inject` is the decoder by default, at the levels that are read.

    `width` None: blocks are as wide as the site whose features they change.
    """

    read: Annotated[Place, BeforeValidator(_named)] = Place()
    inject: Annotated[Place, BeforeValidator(_named)] | None = None
    fusion: Fusion = "add"
    blocks: Blocks = 3
    width: Channels | None = None
    time: bool = False

    @property
    def injected(self) -> Place:
        """The sites that are changed."""
        if self.inject is None:
            return Place(levels=self.read.levels)
        if "levels" not in self.inject.model_fields_set:
            return Place(place=self.inject.place, levels=self.read.levels)
        return self.inject


class Site(_Part):
    """A module of a UNet, and the width of its output."""

    name: SiteName
    channels: Channels


class Branch(_Part):
    """From sites of one size to a site of the upgraded model with 2^doublings times their side."""

    reads: Annotated[tuple[Site, ...], Field(min_length=1, max_length=4)]
    write: Site
    doublings: Annotated[Whole, Field(ge=-3, le=3)]


class ModularConfig(_Part):
    """Everything that decides the tensors of a modular mapper."""

    branches: Annotated[tuple[Branch, ...], Field(min_length=1, max_length=12)]
    fusion: Fusion
    blocks: Blocks
    width: Channels | None
    time: bool

    @field_validator("branches")
    @classmethod
    def _check_writes(cls, value: tuple[Branch, ...]) -> tuple[Branch, ...]:
        names = [branch.write.name for branch in value]
        if len(set(names)) != len(names):
            raise ValueError(f"two branches change one site: {', '.join(names)}")
        return value
