"""Method `floor`: the upgraded model alone, without plugin, from noise in one stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plugins_manifest.schema.words import Side
from runners.base import PassName, Variant

if TYPE_CHECKING:
    from runners.session import GroupSession


class Floor:
    """The reference for quality, and for what a plugin's metric reads where no plugin acts."""

    name: str = "floor"
    uses_t0: bool = False
    uses_plugin: bool = False
    uses_adapter: bool = False
    side: Side = "upgraded"
    shares: tuple[PassName, ...] = ("upgraded_text",)

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Run the upgraded model over the whole schedule; uint8 [b, H, W, 3]."""
        from xadapter.sampling import run_alone

        latents = run_alone(
            session.upgraded,
            session.noise.upgraded_noise,
            n_steps=session.settings.steps,
            preset=session.preset,
        )
        return session.picture("upgraded", latents)
