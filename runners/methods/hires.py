"""Method `hires`: the base image, enlarged and refined by the base model with its plugin.

The common practice without an upgrade ("hires fix"): an image-to-image pass at the upgraded size
with t0 as its denoising strength (SDEdit, arXiv 2108.01073, on one model).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plugins_manifest.schema.words import Side
from runners.base import MethodCost, MethodStyle, PassName, Variant

if TYPE_CHECKING:
    from plugins_manifest.schema import Settings
    from runners.session import GroupSession


class Hires:
    """Baseline without the upgraded model, at its image size."""

    name: str = "hires"
    uses_t0: bool = True
    uses_plugin: bool = True
    uses_adapter: bool = False
    uses_upgraded: bool = False
    side: Side = "upgraded"
    shares: tuple[PassName, ...] = ("base_text", "stage1", "stage1_picture", "enlarged")
    style = MethodStyle(
        20, "#009E73", "triangle-up", "the base image, enlarged and refined by the base model"
    )

    def cost(self, settings: Settings) -> MethodCost:
        """Return the cost of an image-to-image pass of the base model at the upgraded size."""
        return MethodCost(enlarged_calls=1, n_encodes=1, n_decodes=1)

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Noise the enlarged image's latents to t0 and refine them; uint8 [b, H, W, 3]."""
        from xadapter.sampling import run_stage2, sdedit_start

        if variant.t0 is None:
            raise ValueError("hires needs a t0 in (0, 1], got none")
        enlarged = session.enlarged()
        start = sdedit_start(
            enlarged.latents,
            upgraded=enlarged.base,
            n_steps=session.settings.steps,
            t0=variant.t0,
            noise=enlarged.noise,
            preset=session.preset,
        )
        latents = run_stage2(
            enlarged.base,
            start,
            preset=session.preset,
            step_generators=session.step_generators("stage 2"),
        )
        return session.picture("base", latents)
