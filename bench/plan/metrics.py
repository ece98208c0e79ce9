"""What each mode asks for: `honest` (default), and `paper` (arXiv 2312.02238v3's references).

Paper mode asks a Frechet distance to images of the upgraded model without plugin, the raw CLIP
cosine, the condition found again, and the style's cosine to the base + LoRA image of the same
prompt and seed, which has no value for the base row itself. Loads no torch.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from plugins_manifest.schema.manifest import Manifest, Mode

__all__ = ["Mode", "PaperMetrics", "metrics_asked", "paper_metrics"]


@dataclass(frozen=True)
class PaperMetrics:
    """The metrics that stand for the columns of the paper's tables 1 and 2.

    Without a formula in the paper, edge IoU stands for the reconstruction of canny edges (ours).
    """

    fid: str = "fid"
    clip: str = "clip-score"
    style: str = "style-clip-i-paper"
    edges: str = "edge-iou"


def paper_metrics(family: str) -> PaperMetrics:
    """The metrics of a family; pocket has its own networks."""
    if family == "pocket":
        return PaperMetrics("pocket-fid", "pocket-clip", "pocket-style-paper")
    return PaperMetrics()


def metrics_asked(manifest: Manifest, mode: Mode | None = None) -> tuple[str, ...]:
    """The manifest's metrics, and in paper mode those of the paper that it does not name."""
    names = manifest.metrics
    if (mode or manifest.mode) == "paper":
        names = (*names, *astuple(paper_metrics(manifest.family)))
    return tuple(dict.fromkeys(names))
