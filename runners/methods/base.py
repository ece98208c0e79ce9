"""Method `base`: the base model with its plugin, at the base size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plugins_manifest.schema.words import Side
from runners.base import PassName, Variant

if TYPE_CHECKING:
    from runners.session import GroupSession


class BaseModel:
    """The reference for a plugin's function: what it was made for."""

    name: str = "base"
    uses_t0: bool = False
    uses_plugin: bool = True
    uses_adapter: bool = False
    side: Side = "base"
    shares: tuple[PassName, ...] = ("base_text", "stage1", "stage1_picture")

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Return stage 1's pictures, uint8 [b, H, W, 3]."""
        return session.pixels(session.stage1_picture())
