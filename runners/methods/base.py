"""Methods `base` and `base-floor`: the base model with its plugin and without, at its own size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plugins_manifest.schema.words import Side
from runners.base import MethodCost, MethodStyle, PassName, Variant

if TYPE_CHECKING:
    from plugins_manifest.schema import Settings
    from runners.session import GroupSession


class BaseModel:
    """The reference for a plugin's function: the model that the plugin was made for."""

    name: str = "base"
    uses_t0: bool = False
    uses_plugin: bool = True
    uses_adapter: bool = False
    side: Side = "base"
    shares: tuple[PassName, ...] = ("base_text", "stage1", "stage1_picture")
    style = MethodStyle(10, "#8b8b8b", "cross", "the base model with the plugin, at the base size")

    def cost(self, settings: Settings) -> MethodCost:
        """Return no cost of its own: its image is that of stage 1."""
        return MethodCost()

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Return the images of stage 1, uint8 [b, H, W, 3]."""
        return session.pixels(session.stage1_picture())


class BaseFloor(BaseModel):
    """The base model without the plugin, on the content prompt without its words.

    With `base` it shows the plugin's effect at home, same case and seed: see `metrics.effects`.
    """

    name: str = "base-floor"
    uses_plugin: bool = False
    style = MethodStyle(
        95, "#8b8b8b", "thin-diamond", "the base model without the plugin, at the base size"
    )
