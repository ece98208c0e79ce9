"""What each mode asks for: `honest` (default), and `paper` (arXiv 2312.02238v3's references).

Paper mode asks a Frechet distance to images of the upgraded model without plugin, the raw CLIP
cosine, the condition found again, and the style's cosine to the base + LoRA image of the same
prompt and seed, which has no value for the base row itself. Loads no torch.
"""

from __future__ import annotations

from dataclasses import astuple

from plugins_manifest.schema.manifest import Manifest, Mode
from runners.families.registry import family_traits

__all__ = ["Mode", "metrics_asked"]


def metrics_asked(manifest: Manifest, mode: Mode | None = None) -> tuple[str, ...]:
    """The manifest's metrics, and in paper mode those of the paper that it does not name."""
    names = manifest.metrics
    if (mode or manifest.mode) == "paper":
        names = (*names, *astuple(family_traits(manifest.family).paper_metrics))
    return tuple(dict.fromkeys(names))
