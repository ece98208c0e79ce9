"""The mapper of a recipe, by the name of its architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from bench.train.schema import MapperSpec
from xadapter.kinds import build, configured, find_kind

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import nn


def build_mapper(
    spec: MapperSpec,
    base_unet: UNet2DConditionModel,
    upgraded_unet: UNet2DConditionModel,
    *,
    seed: int,
) -> nn.Module:
    """Return a new mapper between two UNets, its weights drawn from `seed`.

    Raises `UserError` for options that its class does not take.
    """
    import torch

    architecture = configured(spec.name, base_unet, upgraded_unet, spec.options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(architecture)


def options_of(name: str) -> type[BaseModel] | None:
    """Return the schema of an architecture's options; None where it checks them itself."""
    found: Any = getattr(find_kind(name), "options", None)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def merged_options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options in a recipe's section `mapper`: those beside its name count too."""
    own = {key: value for key, value in spec.items() if key not in MapperSpec.model_fields}
    given = spec.get("options")
    return {**(given if isinstance(given, dict) else {}), **own}
