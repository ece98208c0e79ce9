"""Method `xadapter`: two stages, with the mapper carrying the plugin's guidance into the second.

Source: X-Adapter, arXiv 2312.02238, section 4.3. The ablations below take away one part each; the
mapper itself is taken away by adapter scale 0, which equals SDEdit bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from plugins_manifest.schema.stacks import PluginArrangement
from plugins_manifest.schema.words import Side, Stage1Mode
from runners.base import MethodStyle, PassName, Variant
from runners.protocols import stage1_mode_of

if TYPE_CHECKING:
    from runners.session import GroupSession
    from xadapter.handover import Stage2Start


class XAdapterMethod:
    """Both models in lock-step over the last steps, from the result of stage 1."""

    name: str = "xadapter"
    uses_t0: bool = True
    uses_plugin: bool = True
    uses_adapter: bool = True
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
        40,
        "#0072B2",
        "circle",
        "like sdedit, with the mapper adding the plugin's features to the upgraded model",
    )

    def render(self, session: GroupSession, variant: Variant) -> np.ndarray:
        """Hand over at t0 and run stage 2; uint8 [b, H, W, 3]."""
        return session.picture("upgraded", session.stage2(self, variant))

    def start(self, session: GroupSession, t0: float | None) -> Stage2Start:
        """Return the latents that stage 1 hands over at t0."""
        from xadapter.sampling import hand_over, hand_over_truncated

        if t0 is None:
            raise ValueError("xadapter needs a t0 in (0, 1], got none")
        noise = session.noise
        if stage1_mode_of(self, session.settings) == "truncated":
            return hand_over_truncated(
                session.stage1(),
                base=session.base,
                upgraded=session.upgraded,
                base_vae=session.family.base.vae,
                upgraded_vae=session.family.upgraded.vae,
                t0=t0,
                posterior_noise=noise.upgraded_posterior,
                preset=session.preset,
            )
        return hand_over(
            session.stage1(),
            session.bridge(),
            base=session.base,
            upgraded=session.upgraded,
            t0=t0,
            upgraded_noise=noise.upgraded_noise,
            base_noise=noise.base_noise,
            preset=session.preset,
        )


class Truncated(XAdapterMethod):
    """Stage 1 stops at t0 and its noisy latents start stage 2, as in the paper's text."""

    name: str = "xadapter-truncated"
    stage1_mode: Stage1Mode = "truncated"
    style = MethodStyle(
        50, "#D55E00", "triangle-left", "xadapter with a stage 1 that stops at t0, still noisy"
    )


class Unplugged(XAdapterMethod):
    """The plugin acts in stage 1 alone: stage 2 gets its image, but not its features."""

    name: str = "xadapter-unplugged"
    arrangement: PluginArrangement = "unplugged"
    shares: tuple[PassName, ...] = (*XAdapterMethod.shares, "stage2_text")
    style = MethodStyle(60, "#3A94C8", "triangle-right", "xadapter without the plugin in stage 2")


class Swapped(XAdapterMethod):
    """Another plugin replaces it in stage 2 (`swap:` in the manifest)."""

    name: str = "xadapter-swapped"
    arrangement: PluginArrangement = "swapped"
    shares: tuple[PassName, ...] = (*XAdapterMethod.shares, "stage2_text")
    style = MethodStyle(70, "#9A8C00", "star", "xadapter with another plugin in stage 2")
