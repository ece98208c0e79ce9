"""LoRA (arXiv 2106.09685), its Tucker form for convolutions (FedPara, arXiv 2108.06098), its bias.

Keys of kohya's sd-scripts, of PEFT, of diffusers' attention processors, old and new, and of XLabs'.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection

from plugins_manifest.formats.formulas.spec import (
    DECOMPOSABLE,
    SHARED,
    FormulaSpec,
    KeyPart,
    Shapes,
    Size,
    flat,
    require,
)

# PEFT keeps the adapter's name in raw state dicts: `.lora_A.default.weight`.
_PEFT = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)"
    r"(?:\.(?!weight$)[\w-]+)?(?:\.weight)?"
)
_PEFT_PARTS = {
    "lora_A": ("lora", "down"),
    "lora_B": ("lora", "up"),
    "lora_magnitude_vector": (SHARED, "magnitude"),
}
_PEFT_BIAS = re.compile(r"(?P<module>.+)\.lora_B(?:\.[\w-]+)?\.bias")
# What PEFT saves as it is: modules_to_save, and biases trained with bias="all".
_SAVED = re.compile(
    r"(?P<module>base_model\.model\..+?)(?:\.(?:base_layer|modules_to_save(?:\.[\w-]+)?))?"
    r"\.(?P<param>weight|bias)"
)
_PROCESSOR = re.compile(
    r"(?P<module>.+?)(?:\.processor)?\.to_(?P<which>q|k|v|out)_lora\.(?P<part>down|up)\.weight"
)
# XLabs-AI/x-flux: processors of FLUX.1's blocks in the names of its own code
_XLABS = re.compile(
    r"(?P<block>(?:.+\.)?(?:double|single)_blocks\.\d+)\.processor"
    r"\.(?P<which>(?:qkv|proj)_lora[12]?)\.(?P<part>down|up)\.weight"
)
_XLABS_LAYERS = {
    "qkv_lora1": "img_attn.qkv",
    "proj_lora1": "img_attn.proj",
    "qkv_lora2": "txt_attn.qkv",
    "proj_lora2": "txt_attn.proj",
    "qkv_lora": "linear1.qkv",
    "proj_lora": "linear2",
}
_OLD = re.compile(r"(?P<module>.+)\.(?:lora|lora_linear_layer)\.(?P<part>down|up)\.weight")


def _split(key: str, _: Collection[str]) -> KeyPart | None:
    """Take PEFT's and diffusers' keys apart."""
    if match := _PEFT_BIAS.fullmatch(key):
        return KeyPart(match["module"], "lora-bias", "diff", "peft", is_bias=True)
    if match := _PEFT.fullmatch(key):
        return KeyPart(match["module"], *_PEFT_PARTS[match["part"]], style="peft")
    if match := _PROCESSOR.fullmatch(key):
        module = f"{match['module']}.{_layer(match['module'], match['which'])}"
        return KeyPart(module, "lora", match["part"], "attn-procs")
    if match := _XLABS.fullmatch(key):
        module = f"{match['block']}.{_XLABS_LAYERS[match['which']]}"
        return KeyPart(module, "lora", match["part"], "xlabs")
    if match := _OLD.fullmatch(key):
        return KeyPart(match["module"], "lora", match["part"], "diffusers-lora")
    return None


def _split_saved(key: str, keys: Collection[str]) -> KeyPart | None:
    """Read a plain weight or bias behind PEFT's prefix, unless it is (IA)^3's scale."""
    match = _SAVED.fullmatch(key)
    if match is None or f"{match['module']}.on_input" in keys:
        return None
    is_bias = match["param"] == "bias"
    return KeyPart(match["module"], "saved", "value", "peft", is_bias=is_bias)


def _layer(module: str, which: str) -> str:
    """Return the layer of an attention processor's factors; CLIP's layers have other names."""
    if module.endswith(".self_attn"):
        return "out_proj" if which == "out" else f"{which}_proj"
    return "to_out.0" if which == "out" else f"to_{which}"


def lora_size(shapes: Shapes) -> Size:
    """Return the size for down [r, i(, k, k)], up [o, r(, 1, 1)]."""
    down, up = shapes["down"], shapes["up"]
    require(min(len(down), len(up)) >= 2 and down[0] == flat(up) > 0, shapes)
    return Size(up[0], flat(down), down[2:] if len(down) > 2 else None)


def _tucker_size(shapes: Shapes) -> Size:
    """Return the size for down [r, i, 1, 1], mid [r, r, k, k], up [o, r, 1, 1]."""
    down, up, mid = shapes["down"], shapes["up"], shapes["mid"]
    require(len(mid) >= 2 and (flat(up), down[0]) == mid[:2], shapes)
    require(flat(down) == down[1] and min(mid) > 0, shapes)
    return Size(up[0], down[1] * math.prod(mid[2:]), mid[2:])


def _saved_size(shapes: Shapes) -> Size:
    value = shapes["value"]
    return Size(value[0], flat(value), value[2:] or None)


LORA = FormulaSpec(
    name="lora",
    math="runners.weights.lora:lora_change",
    keys={".lora_down.weight": "down", ".lora_up.weight": "up"},
    split=_split,
    needed=("down up",),
    size=lora_size,
    zero_parts=(("down", "up"),),
    rank_parts=("down",),
    reads_settings=True,
    kind="lora",
)
TUCKER = FormulaSpec(
    name="lora-tucker",
    math="runners.weights.lora:tucker_change",
    family="lora",
    applies=lambda shapes: "mid" in shapes,
    keys={".lora_mid.weight": "mid"},
    needed=("down up mid",),
    optional=DECOMPOSABLE,
    size=_tucker_size,
    zero_parts=(("down", "up", "mid"),),
    rank_parts=("down",),
    reads_settings=True,
)
BIAS = FormulaSpec(
    name="lora-bias",
    math="runners.weights.full:full_change",
    needed=("diff",),
    optional="",
    size=lambda shapes: Size(shapes["diff"][0], 1),
    zero_parts=(("diff",),),
    reads_settings=True,
    fits_vectors=True,
    kind="lora",
)
SAVED = FormulaSpec(
    name="saved",
    math="runners.weights.full:saved_change",
    split=_split_saved,
    needed=("value",),
    optional="",
    size=_saved_size,
    fits_vectors=True,
    kind="lora",
)
SPECS = (LORA, TUCKER, BIAS, SAVED)
