"""The metrics of a manifest in each mode: `honest` (default) and `paper`.

Paper mode adds the references of arXiv 2312.02238v3: a Frechet distance to images of the upgraded
model without plugin, the raw CLIP cosine, the reconstruction of the condition, and the style's
cosine to the base + LoRA image of the same prompt and seed, which is null for the base row itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from itertools import chain

from bench.registry import CONDITION_METRICS, metrics_of
from plugins_manifest.schema import Manifest
from plugins_manifest.schema.manifest import Mode
from runners.families import family_traits

__all__ = ["Mode", "expand_metrics", "selected_metrics"]


def selected_metrics(manifest: Manifest, mode: Mode | None = None) -> tuple[str, ...]:
    """Return the manifest's metrics; in paper mode those of the paper too."""
    names = manifest.metrics
    if (mode or manifest.mode) == "paper":
        names = (*names, *astuple(family_traits(manifest.family).paper_metrics))
    return tuple(dict.fromkeys(names))


def expand_metrics(names: Sequence[str], manifest: Manifest) -> list[str]:
    """Return each metric once; "condition" means those of the plugins' conditions."""
    if CONDITION_METRICS not in names:
        return list(dict.fromkeys(names))
    conditions = dict.fromkeys(spec.condition for spec in manifest.plugins if spec.condition)
    chosen = [name for condition in conditions for name in metrics_of(condition)]
    lists = ([*chosen] if name == CONDITION_METRICS else [name] for name in names)
    return list(dict.fromkeys(chain.from_iterable(lists)))
