"""T2I-Adapters and IP-Adapters by their keys.

Sources: T2I-Adapter, arXiv 2302.08453, and diffusers' T2IAdapter; IP-Adapter, arXiv 2308.06721,
and the three image projections that diffusers loads (plain, full face, plus).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from plugins_manifest.formats.parsed import BaseModel, Header, ModuleTable, ParsedPlugin, Problem
from plugins_manifest.formats.table import CROSS_DIMS, cross_dim

_T2I = {
    "t2i-adapter": re.compile(
        r"adapter\.(?:conv_in|body\.\d+\.(?:in_conv|out_conv|resnets\.\d+\.block[12]))"
        r"\.(?:weight|bias)"
    ),
    "t2i-adapter-original": re.compile(
        r"(?:conv_in|body\.\d+\.(?:in_conv|out_conv|block[12]|skep|down_opt\.op"
        r"|body\.\d+\.block[12]))\.(?:weight|bias)"
    ),
}
_BODY = re.compile(r"(?:adapter\.)?body\.(\d+)\..+")
_T2I_INPUT = re.compile(r"(?:adapter\.)?(?:conv_in|body\.0\.in_conv)\.weight")
# Pixel-unshuffled condition images: 3 or 1 channels by 8 x 8 (SD1.5) or 16 x 16 (SDXL).
_T2I_BASES: Mapping[int, BaseModel] = {192: "sd1", 64: "sd1", 768: "sdxl", 256: "sdxl"}

_IP_LAYER = re.compile(r"ip_adapter\.(\d+)\.to_([kv])_ip\.weight")
_IP_LORA = re.compile(r"ip_adapter\.\d+\.to_(?:q|k|v|out)_lora\..+")
_PROJECTIONS = {
    "plain": ("proj.weight", "proj.bias", "norm.weight", "norm.bias"),
    "full": tuple(f"proj.{i}.{p}" for i in (0, 2, 3) for p in ("weight", "bias")),
    "plus": (
        "latents",
        *(f"{m}.{p}" for m in ("proj_in", "proj_out", "norm_out") for p in ("weight", "bias")),
    ),
}
_PLUS_LAYER = re.compile(r"layers\.\d+\..+")
_N_SHOWN = 4


def is_t2i_adapter(keys: Iterable[str]) -> bool:
    """Whether a T2I-Adapter's residual blocks are there, in either spelling."""
    return any(re.search(r"body\.\d+\..*block[12]\.weight$", key) for key in keys)


def is_ip_adapter(keys: Iterable[str]) -> bool:
    """Whether the file has an IP-Adapter's attention layers or its image projection."""
    return any(key.startswith(("image_proj.", "ip_adapter.")) for key in keys)


def parse_t2i_adapter(header: Header, table: ModuleTable) -> ParsedPlugin:
    """A T2I-Adapter: all keys follow the pattern, every layer has weight and bias."""
    keys = header.tensors.keys()
    layout = (
        "t2i-adapter" if any(k.startswith("adapter.") for k in keys) else "t2i-adapter-original"
    )
    roles = {key: "network" for key in keys if _T2I[layout].fullmatch(key)}
    base: BaseModel = "unknown"
    for key, info in header.tensors.items():
        if _T2I_INPUT.fullmatch(key) and len(info.shape) == 4:
            base = _T2I_BASES.get(info.shape[1], "unknown")
            break
    blocks = {int(match[1]) for key in keys if (match := _BODY.fullmatch(key))}
    missing = [f"body.{i}" for i in range(max(blocks, default=0) + 1) if i not in blocks]
    missing += _unpaired(roles)
    return _whole_net(header, table, layout=layout, base=base, roles=roles, missing=missing)


def parse_ip_adapter(header: Header, table: ModuleTable) -> ParsedPlugin:
    """An IP-Adapter: an image projection of a known kind, keys and values for every layer."""
    keys = header.tensors.keys()
    if any(_IP_LORA.fullmatch(key) for key in keys):
        why = "an IP-Adapter FaceID needs a face recognizer and its own LoRA; it is not supported"
        return ParsedPlugin(
            "ip-adapter-faceid",
            "unsupported:ip-adapter-faceid",
            "unknown",
            unknown_keys=tuple(keys),
            problems=(Problem("unsupported-kind", why),),
        )
    layers = {key: match for key in keys if (match := _IP_LAYER.fullmatch(key))}
    roles = dict.fromkeys(layers, "network")
    widths = [header.tensors[key].shape[-1] for key in layers if header.tensors[key].shape]
    base = CROSS_DIMS.get(max(widths, key=widths.count), "unknown") if widths else "unknown"
    missing = _missing_layers(layers, table) + _projection(header, roles)
    return _whole_net(header, table, layout="ip-adapter", base=base, roles=roles, missing=missing)


def _missing_layers(layers: Collection[str], table: ModuleTable) -> list[str]:
    """diffusers numbers all attention layers; the cross-attentions are the odd ones."""
    n_cross = sum(name.endswith("attn2.to_k.weight") for name in table)
    wanted = [f"ip_adapter.{2 * i + 1}.to_{kv}_ip.weight" for i in range(n_cross) for kv in "kv"]
    return [key for key in wanted if key not in layers]


def _projection(header: Header, roles: dict[str, str]) -> list[str]:
    """Give the image projection's keys their role; what the nearest kind of it lacks."""
    start = "image_proj."
    inner = {k.removeprefix(start): k for k in header.tensors if k.startswith(start)}
    wanted = min(_PROJECTIONS.values(), key=lambda names: len(set(names) - inner.keys()))
    is_plus = wanted == _PROJECTIONS["plus"]
    for name, key in inner.items():
        if name in wanted or (is_plus and _PLUS_LAYER.fullmatch(name)):
            roles[key] = "network"
    return [start + name for name in wanted if name not in inner]


def _unpaired(keys: Collection[str]) -> list[str]:
    other = {"weight": "bias", "bias": "weight"}
    pairs = (key.rpartition(".") for key in keys)
    wanted = (f"{module}.{other[param]}" for module, _, param in pairs)
    return [key for key in wanted if key not in keys]


def _whole_net(
    header: Header,
    table: ModuleTable,
    *,
    layout: str,
    base: BaseModel,
    roles: dict[str, str],
    missing: list[str],
) -> ParsedPlugin:
    kind = "ip-adapter" if layout == "ip-adapter" else "t2i-adapter"
    own = CROSS_DIMS.get(cross_dim(table) or 0, "unknown")
    problems = []
    if base not in (own, "unknown"):
        problems.append(Problem("wrong-base", f"made for {base}, by its shapes, not for {own}"))
    if missing:
        shown = ", ".join(missing[:_N_SHOWN]) + (", ..." if len(missing) > _N_SHOWN else "")
        problems.append(Problem("missing-key", f"{len(missing)} keys are missing: {shown}"))
    unknown = tuple(key for key in header.tensors if key not in roles)
    problems += [Problem("unknown-key", f"{key}: no layer of a {kind}", key) for key in unknown]
    return ParsedPlugin(
        format=layout,
        kind=kind,
        base_model=base,
        unknown_keys=unknown,
        problems=tuple(problems),
        other_keys={key: roles[key] for key in header.tensors if key in roles},
    )
