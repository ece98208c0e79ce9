"""Where diffusers' own loaders read less of a file than its names and shapes allow.

Measured with diffusers 0.42.1; a test compares every row with `load_lora_weights`.
"""

from __future__ import annotations

from collections.abc import Collection

from plugins_manifest.fits.targets import Target

_READ = frozenset({"lora", "dora"})
# Layouts that the loader of an architecture does not know, though its model has the layers.
_UNREAD: frozenset[tuple[str, str]] = frozenset()


def why_not_loaded(
    target: Target, layout: str, formulas: Collection[str], *, n_other_shape: int
) -> str | None:
    """Return why diffusers does not load what would fit; None where it does."""
    architecture = "" if target.known is None else target.known.architecture
    if other := sorted(set(formulas) - _READ):
        return f"diffusers does not read {', '.join(other)}: use ComfyUI, or extract a LoRA"
    if "dora" in formulas:
        return "diffusers drops the magnitudes of a DoRA and applies another change"
    if n_other_shape:
        return f"diffusers refuses the whole file: {n_other_shape} layers have other shapes"
    if (architecture, layout) in _UNREAD:
        return f"diffusers does not read the layout {layout} for this model: use ComfyUI"
    return None
