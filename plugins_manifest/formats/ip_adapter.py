"""IP-Adapters by their keys.

Source: IP-Adapter, arXiv 2308.06721, and the three image projections that diffusers loads (plain,
full face, plus).
"""

from __future__ import annotations

import re
from collections.abc import Collection

from plugins_manifest.formats.networks import base_problems, missing_problems, network_plugin
from plugins_manifest.formats.parsed import (
    BaseModel,
    FileParser,
    Header,
    ModuleTable,
    ParsedPlugin,
    Problem,
)
from plugins_manifest.formats.table import CROSS_DIMS

KIND = "ip-adapter"
_FACE_ID = "ip-adapter-faceid"
_LAYER = re.compile(r"ip_adapter\.(\d+)\.to_([kv])_ip\.weight")
_LORA = re.compile(r"ip_adapter\.\d+\.to_(?:q|k|v|out)_lora\..+")
_PROJECTIONS = {
    "plain": ("proj.weight", "proj.bias", "norm.weight", "norm.bias"),
    "full": tuple(f"proj.{i}.{p}" for i in (0, 2, 3) for p in ("weight", "bias")),
    "plus": (
        "latents",
        *(f"{m}.{p}" for m in ("proj_in", "proj_out", "norm_out") for p in ("weight", "bias")),
    ),
}
_PLUS_LAYER = re.compile(r"layers\.\d+\..+")


def _recognizes(header: Header, _: ModuleTable) -> bool:
    """Look for an IP-Adapter's attention layers or its image projection."""
    return any(key.startswith(("image_proj.", "ip_adapter.")) for key in header.tensors)


def _parse(header: Header, table: ModuleTable) -> ParsedPlugin:
    """Check for an image projection of a known kind, and keys and values for every layer."""
    keys = header.tensors.keys()
    if any(_LORA.fullmatch(key) for key in keys):
        why = "an IP-Adapter FaceID needs a face recognizer and its own LoRA; it is not supported"
        return ParsedPlugin(
            _FACE_ID,
            f"unsupported:{_FACE_ID}",
            "unknown",
            unknown_keys=tuple(keys),
            problems=(Problem("unsupported-kind", why),),
        )
    layers = [key for key in keys if _LAYER.fullmatch(key)]
    roles = dict.fromkeys(layers, "network")
    widths = [header.tensors[key].shape[-1] for key in layers if header.tensors[key].shape]
    base: BaseModel = "unknown"
    if widths:
        base = CROSS_DIMS.get(max(widths, key=widths.count), "unknown")
    missing = _missing_layers(layers, table) + _projection(header, roles)
    problems = base_problems(base, table) + missing_problems(missing)
    return network_plugin(
        header, kind=KIND, name=KIND, layout=KIND, base=base, roles=roles, problems=problems
    )


def _missing_layers(layers: Collection[str], table: ModuleTable) -> list[str]:
    """Return the keys of cross-attentions that the file lacks."""
    # diffusers numbers all attention layers; the cross-attentions are the odd ones.
    n_cross = sum(name.endswith("attn2.to_k.weight") for name in table)
    wanted = [f"ip_adapter.{2 * i + 1}.to_{kv}_ip.weight" for i in range(n_cross) for kv in "kv"]
    return [key for key in wanted if key not in layers]


def _projection(header: Header, roles: dict[str, str]) -> list[str]:
    """Add the roles of the image projection's keys; return what its nearest kind lacks."""
    start = "image_proj."
    inner = {k.removeprefix(start): k for k in header.tensors if k.startswith(start)}
    wanted = min(_PROJECTIONS.values(), key=lambda names: len(set(names) - inner.keys()))
    is_plus = wanted == _PROJECTIONS["plus"]
    for name, key in inner.items():
        if name in wanted or (is_plus and _PLUS_LAYER.fullmatch(name)):
            roles[key] = "network"
    return [start + name for name in wanted if name not in inner]


PARSER = FileParser(
    layouts={
        KIND: "`image_proj....` and `ip_adapter.1.to_k_ip.weight`",
        _FACE_ID: "IP-Adapter with LoRA layers (`to_q_lora`)",
    },
    recognizes=_recognizes,
    parse=_parse,
)
