"""The names of file layouts: who writes files so, and how they are recognized."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from plugins_manifest.formats.groups import Group
from plugins_manifest.formats.names import Name

LAYOUTS: Mapping[str, str] = MappingProxyType(
    {
        "kohya": "`lora_unet_...lora_down.weight`, underscores for dots (sd-scripts, LoCon)",
        "lycoris": "kohya's module names with LyCORIS' parts (LoHa, LoKr, (IA)^3, full, ...)",
        "sgm": "kohya's prefix, the original block numbers (`lora_unet_input_blocks_1_1_...`)",
        "oft": "`oft_unet_...oft_blocks` (sd-scripts' OFT)",
        "peft": "`unet....lora_A.weight`, `text_encoder....` (diffusers)",
        "peft-bare": "`down_blocks....lora_A.weight`, no prefix",
        "peft-raw": "`base_model.model....` (PEFT's own save_pretrained)",
        "attn-procs": "`unet....processor.to_q_lora.down.weight` (diffusers before 0.17)",
        "attn-procs-bare": "the same without prefix (old pytorch_lora_weights.bin)",
        "diffusers-lora": "`...to_q.lora.down.weight`, `...lora_linear_layer.up.weight` (old)",
        "lycoris-dotted": "LyCORIS' parts behind dotted module names",
        "comfyui": "`diffusion_model.input_blocks.1...`, dots and original block numbers",
        "embedding": "one tensor per token (diffusers)",
        "embedding-civitai": "`emb_params` (token not named in the file)",
        "embedding-a1111": "`string_to_param.*` (AUTOMATIC1111, original textual inversion)",
        "embedding-sdxl": "`clip_l` and `clip_g`",
        "controlnet": "`controlnet_cond_embedding...` (diffusers)",
        "controlnet-ldm": "`control_model....` or bare `input_hint_block...` (original)",
        "controlnet-difference": "original keys and `difference`: deltas to the base UNet",
        "t2i-adapter": "`adapter.body....` (diffusers)",
        "t2i-adapter-original": "`body.0.block1...`, `conv_in...` (original)",
        "ip-adapter": "`image_proj....` and `ip_adapter.1.to_k_ip.weight`",
        "hypernetwork": "numbered layers per attention width (AUTOMATIC1111)",
        "controllllite": "`lllite_unet_...`",
        "control-lora": "`lora_controlnet` and low-rank parts of a ControlNet",
        "custom-diffusion": "`...to_k_custom_diffusion.weight`",
        "aesthetic-gradient": "one bare tensor (AUTOMATIC1111)",
        "motion-module": "`...motion_modules...` (AnimateDiff)",
        "ip-adapter-faceid": "IP-Adapter with LoRA layers (`to_q_lora`)",
        "checkpoint": "a whole model: UNet, VAE or text encoder",
        "unknown": "nothing recognized",
    }
)


def weight_layout(group: Group, name: Name) -> str:
    """The layout of one module's keys in a file that changes weights."""
    if name.prefix.startswith(("lora_", "lycoris_", "oft_")):
        return _flat_layout(group, name)
    if "diffusion_model." in name.prefix:
        return "comfyui"
    for style in ("attn-procs", "diffusers-lora"):
        if style in group.styles:
            return style if name.prefix or style == "diffusers-lora" else f"{style}-bare"
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
