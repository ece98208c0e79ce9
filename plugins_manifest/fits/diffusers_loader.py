"""Where diffusers' own loaders read less of a file than its names and shapes allow.

Measured with diffusers 0.42.1; a test compares every model and layout with `load_lora_weights`.
"""

from __future__ import annotations

from dataclasses import dataclass

from plugins_manifest.fits.targets import Target

_READ = frozenset({"lora", "dora"})
# Layouts that the loader of a model or an architecture does not know, though the layers are there.
_UNREAD = frozenset(
    {
        ("unet", "comfyui"),
        ("sd1", "sgm"),
        ("sd2", "sgm"),
        ("sd3", "kohya"),
        ("sd3", "comfyui"),
        ("sana", "kohya"),
        ("sana", "comfyui"),
        ("pixart", "peft"),
        ("pixart", "kohya"),
        ("pixart", "comfyui"),
    }
)


@dataclass(frozen=True)
class FileTraits:
    """What a loader depends on besides names and shapes: `has_peft_keys` are `lora_A`, `lora_B`;
    `has_fused_attention` is a `qkv` of Z-Image's own code."""

    layout: str
    formulas: tuple[str, ...] = ()
    has_peft_keys: bool = False
    has_fused_attention: bool = False


def why_not_loaded(target: Target, file: FileTraits, *, n_other_shape: int) -> str | None:
    """Return why diffusers does not load what would fit; None where it does."""
    if other := sorted(set(file.formulas) - _READ):
        return f"diffusers does not read {', '.join(other)}: use ComfyUI, or extract a LoRA"
    if "dora" in file.formulas:
        return "diffusers drops the magnitudes of a DoRA and applies another change"
    if n_other_shape:
        return f"diffusers refuses the whole file: {n_other_shape} layers have other shapes"
    if file.layout.endswith("-bare") or file.layout == "peft-raw":
        return (
            "diffusers ignores keys without a model in front: pass the UNet's or transformer's "
            "load_lora_adapter prefix=None"
        )
    if _is_unread(target, file):
        return "diffusers does not read these names for this model: use ComfyUI"
    return None


def _is_unread(target: Target, file: FileTraits) -> bool:
    architecture = "" if target.known is None else target.known.architecture
    if {(architecture, file.layout), (target.base, file.layout)} & _UNREAD:
        return True
    if file.layout != "comfyui" or not file.has_peft_keys:
        return False
    return architecture == "flux1" or (architecture == "z-image" and file.has_fused_attention)
