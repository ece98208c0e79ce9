"""Layouts of files that change weights: who writes them, and how they are recognized."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from plugins_manifest.formats.groups import Group
from plugins_manifest.formats.names import Name

WEIGHT_LAYOUTS: Mapping[str, str] = MappingProxyType(
    {
        "kohya": "`lora_unet_...lora_down.weight`, underscores for dots (sd-scripts, LoCon)",
        "lycoris": "kohya's module names with LyCORIS' parts (LoHa, LoKr, (IA)^3, full, ...)",
        "sgm": "kohya's prefix, the original block numbers (`lora_unet_input_blocks_1_1_...`)",
        "oft": "`oft_unet_...oft_blocks` (sd-scripts' OFT)",
        "peft": "`unet....lora_A.weight`, `transformer....`, `text_encoder....` (diffusers)",
        "peft-bare": "`down_blocks....lora_A.weight`, no prefix",
        "peft-raw": "`base_model.model....` (PEFT's own save_pretrained)",
        "attn-procs": "`unet....processor.to_q_lora.down.weight` (diffusers before 0.17)",
        "attn-procs-bare": "the same without prefix (old pytorch_lora_weights.bin)",
        "xlabs": "`double_blocks.0.processor.qkv_lora1.down.weight` (XLabs' x-flux, FLUX.1)",
        "diffusers-lora": "`...to_q.lora.down.weight`, `...lora_linear_layer.up.weight` (old)",
        "lycoris-dotted": "LyCORIS' parts behind dotted module names",
        "comfyui": "`diffusion_model....`, dots and the names of the model's own code",
    }
)


def weight_layout(group: Group, name: Name) -> str:
    """Return the layout of one module's keys."""
    if name.prefix.startswith(("lora_", "lycoris_", "oft_")):
        return _flat_layout(group, name)
    if "diffusion_model." in name.prefix and "xlabs" not in group.styles:
        return "comfyui"
    for style in ("attn-procs", "diffusers-lora", "xlabs"):
        if style in group.styles:
            return f"{style}-bare" if style == "attn-procs" and not name.prefix else style
    if name.is_raw:
        return "peft-raw"
    if "peft" in group.styles:
        return "peft" if name.prefix else "peft-bare"
    return "kohya" if group.is_plain_lora else "lycoris-dotted"


def _flat_layout(group: Group, name: Name) -> str:
    if name.prefix.startswith("oft_"):
        return "oft"
    if name.is_sgm:
        return "sgm"
    return "kohya" if group.is_plain_lora else "lycoris"
