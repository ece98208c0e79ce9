"""Which metric stands for what a plugin is for, for quality and for text. Loads no torch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

Role = Literal["function", "quality", "text"]

# first in a list that a plugin has numbers for; a plugin has one function
CHOICES: dict[Role, tuple[str, ...]] = {
    "function": (
        "edge-f1-1px",
        "edge-f1",
        "edge-iou",
        "mask-iou",
        "depth-aligned-rmse",
        "depth-rmse",
        "hed-ms-ssim",
        "hed-ssim",
        "softedge-ms-ssim",
        "softedge-ssim",
        "lineart-ms-ssim",
        "lineart-ssim",
        "seg-iou",
        "pose-oks",
        "tile-lpips",
        "tile-psnr",
        "pocket-style-rate",
        "style-clip-i",
        "style-csd",
        "style-gram",
        "pocket-style",
    ),
    "quality": ("pocket-kid", "kid", "cmmd", "kid-floor", "cmmd-floor", "pocket-fid", "fid"),
    "text": ("clip-score", "pocket-clip"),
}
# kernel distances that come with values without each prompt (a Frechet distance never decides);
# those over pairs of different prompts first: the same prompts on both sides cancel their spread
GAIN_UPGRADED = ("pocket-kid-floor", "kid-floor", "cmmd-floor", "pocket-kid", "kid", "cmmd")
GAIN_ORACLE = ("pocket-kid-oracle", "kid-oracle", "cmmd-oracle")


def choose(role: Role, known: Collection[str]) -> str | None:
    """The metric that stands for a role, of those that have values; None if there is none."""
    return next((name for name in CHOICES[role] if name in known), None)
