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
    )
    style = MethodStyle(
        30, "#C68200", "square", "the base image, noised to t0 and denoised by the upgraded model"
    )

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Run the last steps of the schedule from the image of stage 1; uint8 [b, H, W, 3]."""
        from xadapter.sampling import run_stage2, sdedit_start

        if variant.t0 is None:
            raise ValueError("sdedit needs a t0 in (0, 1], got none")
        start = sdedit_start(
            session.bridge().upgraded_latents,
            upgraded=session.upgraded,
            n_steps=session.settings.steps,
            t0=variant.t0,
            noise=session.noise.upgraded_noise,
            preset=session.preset,
        )
        latents = run_stage2(
            session.upgraded,
            start,
            preset=session.preset,
            step_generators=session.step_generators("stage 2"),
        )
        return session.picture("upgraded", latents)
