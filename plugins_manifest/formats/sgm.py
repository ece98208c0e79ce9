"""The original numbering of a Stable Diffusion UNet's blocks (`input_blocks.4.1`).

Derived from the model's own block counts, never by a substring: `input_blocks_1` is
also in `input_blocks_10` (diffusers 0.42.1 fails there). Source: the layout of CompVis'
UNetModel (openaimodel.py), where one running number counts conv_in, layers and resamplers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from plugins_manifest.formats.table import UNET

_TOP: Mapping[str, str] = MappingProxyType(
    {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
)
_IN_RESNET: Mapping[str, str] = MappingProxyType(
    {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
)
_PART = re.compile(r"(down_blocks|up_blocks|mid_block)(?:\.(\d+))?\.(\w+)\.(\d+)(?:\.(.+))?")


def sgm_modules(modules: Iterable[str]) -> dict[str, str]:
    """Map original to canonical module names, for the modules that have parameters."""
    inside = [m.removeprefix(UNET) for m in modules if m.startswith(UNET)]
    places = dict(_places(_sizes(inside)))
    found = {_TOP[m]: UNET + m for m in inside if m in _TOP}
    for module in inside:
        match = _PART.fullmatch(module)
        if match is None:
            continue
        block, i, part, j, rest = match.groups()
        place = places.get((block, int(i or 0), part, int(j)))
        if place is not None:
            tail = _tail(part, rest)
            found[f"{place}.{tail}" if tail else place] = UNET + module
    return found


def _tail(part: str, rest: str | None) -> str:
    if part == "resnets":
        return _IN_RESNET.get(rest or "", rest or "")
    # A downsampler's convolution is called `op`, an upsampler's `conv`.
    return "op" if part == "downsamplers" else rest or ""


_Sizes = dict[tuple[str, int], dict[str, int]]
_Place = tuple[str, int, str, int]


def _sizes(modules: Iterable[str]) -> _Sizes:
    """Count resnets, attentions and resamplers of each (block kind, number)."""
    sizes: _Sizes = {}
    for module in modules:
        match = _PART.fullmatch(module)
        if match is not None:
            block, i, part, j, _ = match.groups()
            counts = sizes.setdefault((block, int(i or 0)), {})
            counts[part] = max(counts.get(part, 0), int(j) + 1)
    return sizes


def _places(sizes: _Sizes) -> Iterator[tuple[_Place, str]]:
    """Yield each place in diffusers with its name in the original numbering."""
    n_in, n_out = 1, 0
    for (block, i), counts in sorted(sizes.items()):
        n_resnets, n_attentions = counts.get("resnets", 0), counts.get("attentions", 0)
        if block == "mid_block":
            yield from _middle(n_resnets, n_attentions)
            continue
        for j in range(n_resnets):
            side, n = ("input", n_in) if block == "down_blocks" else ("output", n_out)
            n_in, n_out = n_in + (side == "input"), n_out + (side == "output")
            yield (block, i, "resnets", j), f"{side}_blocks.{n}.0"
            yield (block, i, "attentions", j), f"{side}_blocks.{n}.1"
        if "downsamplers" in counts:
            yield (block, i, "downsamplers", 0), f"input_blocks.{n_in}.0"
            n_in += 1
        if "upsamplers" in counts:
            yield (block, i, "upsamplers", 0), f"output_blocks.{n_out - 1}.{1 + bool(n_attentions)}"


def _middle(n_resnets: int, n_attentions: int) -> Iterator[tuple[_Place, str]]:
    """Yield resnet, attention, resnet, ... with consecutive numbers."""
    for j in range(n_resnets):
        yield ("mid_block", 0, "resnets", j), f"middle_block.{j + min(j, n_attentions)}"
    for j in range(n_attentions):
        yield ("mid_block", 0, "attentions", j), f"middle_block.{2 * j + 1}"
