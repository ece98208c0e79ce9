"""Methods `floor`, `oracle`, `converted`: the upgraded model alone, from noise in one stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plugins_manifest.schema.stacks import PluginArrangement
from plugins_manifest.schema.words import Side
from runners.base import MethodStyle, PassName, Variant

if TYPE_CHECKING:
    from runners.session import GroupSession


class Floor:
    """The upgraded model without a plugin.

    The reference for quality, and for the value of a plugin's metric where no plugin acts.
    """

    name: str = "floor"
    uses_t0: bool = False
    uses_plugin: bool = False
    uses_adapter: bool = False
    side: Side = "upgraded"
    shares: tuple[PassName, ...] = ("upgraded_text",)
    style = MethodStyle(90, "#8b8b8b", "triangle-down", "the upgraded model without the plugin")

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Run the upgraded model over the whole schedule; uint8 [b, H, W, 3]."""
        return session.picture("upgraded", session.one_stage())


class Oracle(Floor):
    """The upgraded model with the plugin's native twin (`native:` in the manifest).

    The twin was made for the upgraded model itself: a measured ceiling of what an upgrade can keep.
    """

    name: str = "oracle"
    arrangement: PluginArrangement = "native"
    style = MethodStyle(
        80, "#CC79A7", "diamond", "the upgraded model with a plugin that was made for it"
    )


class Converted(Floor):
    """The upgraded model with a file that was made of the plugin's (`converted:` in the manifest).

    Such as by `xbench convert`: unlike a native twin it is judged, not a ceiling.
    """

    name: str = "converted"
    arrangement: PluginArrangement = "converted"
    style = MethodStyle(
        28, "#56711F", "octagon", "the upgraded model with a file that was converted for it"
    )
