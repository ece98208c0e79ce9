"""X-Adapter with a part taken away: what does the adapter do beyond a two-pass img2img?

The mapper itself is taken away by adapter scale 0, which leaves SDEdit bit by bit.
"""

from __future__ import annotations

from plugins_manifest.schema.stacks import PluginArrangement
from runners.base import PassName, Stage1Mode
from runners.methods.x_adapter import XAdapterMethod


class Truncated(XAdapterMethod):
    """Stage 1 stops at t0 and its noisy latent goes on, as in the paper's text."""

    name: str = "xadapter-truncated"
    stage1_mode: Stage1Mode = "truncated"


class Unplugged(XAdapterMethod):
    """The plugin acts in stage 1 alone: stage 2 sees its picture, and none of its features."""

    name: str = "xadapter-unplugged"
    cast: PluginArrangement = "unplugged"
    shares: tuple[PassName, ...] = (*XAdapterMethod.shares, "stage2_text")


class Swapped(XAdapterMethod):
    """In stage 2 another plugin takes its place (`swap:` in the manifest)."""

    name: str = "xadapter-swapped"
    cast: PluginArrangement = "swapped"
    shares: tuple[PassName, ...] = (*XAdapterMethod.shares, "stage2_text")
