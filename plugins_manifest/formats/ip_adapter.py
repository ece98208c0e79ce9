"""IP-Adapters by their keys.

Source: IP-Adapter, arXiv 2308.06721, and the three image projections that diffusers loads (plain,
full face, plus).
"""

from __future__ import annotations

import re

from plugins_manifest.formats.networks import (
    base_problems,
    missing_problems,
    network_plugin,
    shape_problems,
)
from plugins_manifest.formats.parsed import (
    BaseModel,
    FileParser,
    Header,
    ModuleTable,
    ParsedPlugin,
    Problem,
)
from plugins_manifest.formats.table import CROSS_DIMS, cross_dim

KIND = "ip-adapter"
_FACE_ID, _PLUS, _FULL = "ip-adapter-faceid", "ip-adapter-plus", "ip-adapter-full"
_LAYER = re.compile(r"ip_adapter\.(\d+)\.to_([kv])_ip\.weight")
_LORA = re.compile(r"ip_adapter\.\d+\.to_(?:q|k|v|out)_lora\..+")
_PROJECTION = ("proj.weight", "proj.bias", "norm.weight", "norm.bias")
_START = "image_proj."
_ONLY_PLAIN = "a run attaches the plain kind (ip-adapter_sd15)"
# Kinds by a key that only they have: the layout, and why it is refused.
_OTHERS = (
    (_LORA, _FACE_ID, "an IP-Adapter FaceID needs a face recognizer and its own LoRA"),
    (
        re.compile(r"image_proj\.perceiver_resampler\..+"),
        _FACE_ID,
        "an IP-Adapter FaceID Plus needs a face recognizer",
    ),
    (
        re.compile(r"image_proj\.latents"),
        _PLUS,
        "an IP-Adapter Plus reads the image encoder's hidden states",
    ),
    (
        re.compile(r"image_proj\.proj\.\d+\..+"),
        _FULL,
        "an IP-Adapter Full or FaceID reads other features of the image",
    ),
)


def _recognizes(header: Header, _: ModuleTable) -> bool:
    """Look for an IP-Adapter's attention layers or its image projection."""
    return any(key.startswith(("image_proj.", "ip_adapter.")) for key in header.tensors)


def _parse(header: Header, table: ModuleTable) -> ParsedPlugin:
    """Check for the plain image projection, and keys and values for every layer, in all shapes."""
    keys = header.tensors.keys()
    base = _base(header)
    for pattern, layout, why in _OTHERS:
        if any(pattern.fullmatch(key) for key in keys):
            return _refused(header, layout, f"{why}; {_ONLY_PLAIN}", base)
    expected = _layers(table) | _projection(header, table)
    problems = [
        *base_problems(base, table),
        *missing_problems([key for key in expected if key not in keys]),
        *shape_problems(header, expected),
    ]
    roles = dict.fromkeys((key for key in keys if key in expected), "network")
    return network_plugin(
        header, kind=KIND, name=KIND, layout=KIND, base=base, roles=roles, problems=problems
    )


def _base(header: Header) -> BaseModel:
    """Return the base model whose text is as wide as the input of most layers."""
    layers = [key for key in header.tensors if _LAYER.fullmatch(key)]
    widths = [header.tensors[key].shape[-1] for key in layers if header.tensors[key].shape]
    return CROSS_DIMS.get(max(widths, key=widths.count), "unknown") if widths else "unknown"


def _refused(header: Header, layout: str, why: str, base: BaseModel) -> ParsedPlugin:
    return ParsedPlugin(
        layout,
        f"unsupported:{layout}",
        base,
        unknown_keys=tuple(header.tensors),
        problems=(Problem("unsupported-kind", why),),
    )


def _layers(table: ModuleTable) -> dict[str, tuple[int, ...]]:
    """Return the shapes of keys and values for every cross-attention."""
    # diffusers numbers all attention layers; the cross-attentions are the odd ones.
    return {
        f"ip_adapter.{2 * i + 1}.to_{kv}_ip.weight": table[name]
        for i, name in enumerate(sorted(_cross_attentions(table), key=_order))
        for kv in "kv"
    }


def _cross_attentions(table: ModuleTable) -> list[str]:
    return [name for name in table if name.endswith("attn2.to_k.weight")]


def _order(name: str) -> tuple[int, list[int]]:
    """Return the place of an attention in diffusers' UNet: down, up, middle, then by numbers."""
    kinds = ("down_blocks", "up_blocks", "mid_block")
    kind = next((i for i, part in enumerate(kinds) if f".{part}." in name), len(kinds))
    return kind, [int(word) for word in name.split(".") if word.isdigit()]


def _projection(header: Header, table: ModuleTable) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the image projection, of as many tokens as its file has."""
    width = cross_dim(table) or 0
    weight = header.tensors.get(f"{_START}proj.weight")
    rows, columns = weight.shape if weight is not None and len(weight.shape) == 2 else (width, 0)
    n_rows = rows if width and rows and rows % width == 0 else width
    shapes = ((n_rows, columns), (n_rows,), (width,), (width,))
    return {f"{_START}{name}": shape for name, shape in zip(_PROJECTION, shapes, strict=True)}


PARSER = FileParser(
    layouts={
        KIND: "`image_proj....` and `ip_adapter.1.to_k_ip.weight`",
        _PLUS: "`image_proj.latents` (IP-Adapter Plus)",
        _FULL: "`image_proj.proj.0.weight` (IP-Adapter Full, FaceID)",
        _FACE_ID: "IP-Adapter with LoRA layers (`to_q_lora`)",
    },
    recognizes=_recognizes,
    parse=_parse,
)
