"""Method `sdedit`: the base image, resized, noised to t0, denoised by the upgraded model alone.

Source: SDEdit, arXiv 2108.01073; the baseline of X-Adapter, arXiv 2312.02238, section 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plugins_manifest.schema.words import Side
from runners.base import MethodStyle, PassName, Variant

if TYPE_CHECKING:
    from runners.session import GroupSession
    from xadapter.handover import Stage2Start


class SDEdit:
    """X-Adapter's baseline without an adapter, from the same image and the same noise."""

    name: str = "sdedit"
    uses_t0: bool = True
    uses_plugin: bool = True
    uses_adapter: bool = False
    side: Side = "upgraded"
    shares: tuple[PassName, ...] = (
        "base_text",
        "stage1",
        "stage1_picture",
        "bridge",
        "upgraded_text",
        "stage2",
    )
    style = MethodStyle(
        30, "#C68200", "square", "the base image, noised to t0 and denoised by the upgraded model"
    )

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Run the last steps of the schedule from the image of stage 1; uint8 [b, H, W, 3]."""
        return session.picture("upgraded", session.stage2(self, variant))

    def start(self, session: GroupSession, t0: float | None) -> Stage2Start:
        """Return the latents of stage 1's image, noised to t0."""
        from xadapter.sampling import sdedit_start

        if t0 is None:
            raise ValueError("sdedit needs a t0 in (0, 1], got none")
        return sdedit_start(
            session.bridge().upgraded_latents,
            upgraded=session.upgraded,
            n_steps=session.settings.steps,
            t0=t0,
            noise=session.noise.upgraded_noise,
            preset=session.preset,
        )
