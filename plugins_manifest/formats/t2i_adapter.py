"""T2I-Adapters by their keys. Source: T2I-Adapter, arXiv 2302.08453, and diffusers' T2IAdapter."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from plugins_manifest.formats.networks import base_problems, missing_problems, network_plugin
from plugins_manifest.formats.parsed import (
    BaseModel,
    FileParser,
    Header,
    ModuleTable,
    ParsedPlugin,
    Problem,
)

KIND = "t2i-adapter"
_DIFFUSERS, _ORIGINAL = "t2i-adapter", "t2i-adapter-original"
_LAYERS = {
    _DIFFUSERS: re.compile(
        r"adapter\.(?:conv_in|body\.\d+\.(?:in_conv|out_conv|resnets\.\d+\.block[12]))"
        r"\.(?:weight|bias)"
    ),
    _ORIGINAL: re.compile(
        r"(?:conv_in|body\.\d+\.(?:in_conv|out_conv|block[12]|skep|down_opt\.op"
        r"|body\.\d+\.block[12]))\.(?:weight|bias)"
    ),
}
_LAYER = re.compile(
    r"(?:adapter\.)?(?:body\.(?P<level>\d+)\.(?:(?:resnets|body)\.\d+\.)?)?"
    r"(?P<layer>conv_in|in_conv|out_conv|block[12])\.(?P<part>weight|bias)"
)
_NARROWED = 4  # a light adapter's blocks have a quarter of its features' channels
_MARK = re.compile(r".*body\.\d+\..*block[12]\.weight")
_BODY = re.compile(r"(?:adapter\.)?body\.(\d+)\..+")
_INPUT = re.compile(r"(?:adapter\.)?(?:conv_in|body\.0\.in_conv)\.weight")
# Pixel-unshuffled condition images: 3 or 1 channels by 8 x 8 (SD1.5) or 16 x 16 (SDXL).
_BASES: Mapping[int, BaseModel] = {192: "sd1", 64: "sd1", 768: "sdxl", 256: "sdxl"}


def _recognizes(header: Header, _: ModuleTable) -> bool:
    """Look for a T2I-Adapter's residual blocks, in either spelling."""
    return any(_MARK.fullmatch(key) for key in header.tensors)


def _parse(header: Header, table: ModuleTable) -> ParsedPlugin:
    """Check that all keys follow the pattern and every layer has weight and bias."""
    keys = header.tensors.keys()
    layout = _DIFFUSERS if any(key.startswith("adapter.") for key in keys) else _ORIGINAL
    roles = {key: "network" for key in keys if _LAYERS[layout].fullmatch(key)}
    base = _base(header)
    blocks = {int(match[1]) for key in keys if (match := _BODY.fullmatch(key))}
    missing = [f"body.{i}" for i in range(max(blocks, default=0) + 1) if i not in blocks]
    problems = [
        *base_problems(base, table),
        *missing_problems(missing + _unpaired(roles)),
        *_level_problems(header, table),
    ]
    return network_plugin(
        header, kind=KIND, name=KIND, layout=layout, base=base, roles=roles, problems=problems
    )


def _base(header: Header) -> BaseModel:
    for key, info in header.tensors.items():
        if _INPUT.fullmatch(key) and len(info.shape) == 4:
            return _BASES.get(info.shape[1], "unknown")
    return "unknown"


def _level_problems(header: Header, table: ModuleTable) -> list[Problem]:
    """Compare the widths of the features with those of the base UNet's levels."""
    wanted = [
        table[name][0]
        for i in range(len(table))
        if (name := f"unet.down_blocks.{i}.resnets.0.conv1.weight") in table
    ]
    shapes = {
        key.removeprefix("adapter."): info.shape
        for key, info in header.tensors.items()
        if len(info.shape) == 4
    }
    outs = _numbered(shapes, r"body\.(\d+)\.out_conv\.weight")
    nested = _numbered(shapes, r"body\.(\d+)\.resnets\.0\.block1\.weight")
    flat = _numbered(shapes, r"body\.(\d+)\.block1\.weight")
    n_blocks = max(len(flat) // max(len(wanted), 1), 1)
    found = outs or nested or flat[::n_blocks]
    if found != wanted:
        message = f"features of widths {found}, the base model's levels have {wanted}"
        return [Problem("bad-shape", message)]
    return _shape_problems(header, wanted, is_light=bool(outs), n_flat=n_blocks if flat else 1)


def _shape_problems(
    header: Header, widths: Sequence[int], *, is_light: bool, n_flat: int
) -> list[Problem]:
    """Compare every layer's shape with those of the network of these widths.

    `n_flat` is how many numbered blocks make a level.
    """
    problems = []
    for key, info in header.tensors.items():
        match = _LAYER.fullmatch(key)
        if match is None:
            continue
        level = int(match["level"] or 0) // n_flat
        wanted = _shape(match["layer"], level, widths, is_light=is_light)
        wanted = wanted[:1] if match["part"] == "bias" else wanted
        shape = info.shape
        is_long = len(shape) == len(wanted)
        if not (is_long and all(w in (0, n) for n, w in zip(shape, wanted, strict=True))):
            expected = ", ".join(str(w or "?") for w in wanted)
            problems.append(Problem("bad-shape", f"{key} is {list(shape)}, not [{expected}]", key))
    return problems


def _shape(layer: str, level: int, widths: Sequence[int], *, is_light: bool) -> tuple[int, ...]:
    """Return the shape of a layer's weight; 0 for the channels of the condition image."""
    if layer == "conv_in":
        return widths[0], 0, 3, 3
    width, before = widths[level], widths[level - 1] if level else 0
    inner = width // _NARROWED if is_light else width
    side = 3 if is_light or layer == "block1" else 1
    shapes = {
        "in_conv": (inner, before, 1, 1),
        "out_conv": (width, inner, 1, 1),
        "block1": (inner, inner, side, side),
        "block2": (inner, inner, side, side),
    }
    return shapes[layer]


def _numbered(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> list[int]:
    """Return the output widths of the layers of a pattern, by their number."""
    found = ((re.fullmatch(pattern, key), shape) for key, shape in shapes.items())
    return [n_out for _, n_out in sorted((int(m[1]), shape[0]) for m, shape in found if m)]


def _unpaired(keys: Collection[str]) -> list[str]:
    other = {"weight": "bias", "bias": "weight"}
    pairs = (key.rpartition(".") for key in keys)
    wanted = (f"{module}.{other[param]}" for module, _, param in pairs)
    return [key for key in wanted if key not in keys]


PARSER = FileParser(
    layouts={
        _DIFFUSERS: "`adapter.body....` (diffusers)",
        _ORIGINAL: "`body.0.block1...`, `conv_in...` (original)",
    },
    recognizes=_recognizes,
    parse=_parse,
)
