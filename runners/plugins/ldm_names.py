"""Names of ControlNet and T2I-Adapter parameters in the files of their first authors.

The names are computed for every parameter of the diffusers network, so that missing and unknown
keys of the file are detected. Sources: the layouts of Stable Diffusion's openaimodel (input_blocks,
middle_block) with ControlNet's hint block and zero convolutions, and of T2I-Adapter's body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

LDM_PREFIX = "control_model."
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}


def renamed(
    state: Mapping[str, Any], names: Iterable[str], original: Callable[[str], str]
) -> dict[str, Any]:
    """Return the tensors by the network's own `names`; unknown keys keep their names."""
    known = {original(name): name for name in names}
    return {known.get(key, key): value for key, value in state.items()}


def controlnet_name(name: str, *, layers_per_block: int, n_hint_blocks: int) -> str:
    """Return the original name, without prefix, of a parameter of diffusers' ControlNetModel.

    `n_hint_blocks` counts the convolutions between the hint's first and last.
    """
    head, _, end = name.rpartition(".")
    fixed = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "controlnet_cond_embedding.conv_in": "input_hint_block.0",
        "controlnet_cond_embedding.conv_out": f"input_hint_block.{2 * (n_hint_blocks + 1)}",
        "controlnet_mid_block": "middle_block_out.0",
    }
    if head in fixed:
        return f"{fixed[head]}.{end}"
    if match := re.fullmatch(r"controlnet_cond_embedding\.blocks\.(\d+)", head):
        return f"input_hint_block.{2 * (int(match[1]) + 1)}.{end}"
    if match := re.fullmatch(r"controlnet_down_blocks\.(\d+)", head):
        return f"zero_convs.{match[1]}.0.{end}"
    if match := re.fullmatch(r"mid_block\.(resnets\.\d+|attentions\.\d+)\.(.+)", name):
        return f"middle_block.{_MIDDLE[match[1]]}.{_inner(match[1], match[2])}"
    return _down_name(name, layers_per_block)


def _down_name(name: str, layers_per_block: int) -> str:
    match = re.fullmatch(
        r"down_blocks\.(\d+)\.(resnets|attentions|downsamplers)\.(\d+)\.(.+)", name
    )
    if match is None:
        return name
    block, kind, layer, rest = int(match[1]), match[2], int(match[3]), match[4]
    first = 1 + block * (layers_per_block + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers_per_block}.0.{rest.replace('conv', 'op', 1)}"
    place = 0 if kind == "resnets" else 1
    return f"input_blocks.{first + layer}.{place}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    """Translate names inside a resnet; those inside an attention block are the same in both."""
    if not kind.startswith("resnets"):
        return rest
    part, _, end = rest.partition(".")
    return f"{_RESNET.get(part, part)}.{end}"


def adapter_name(name: str, *, n_res_blocks: int, is_light: bool) -> str:
    """Return the original name of a parameter of diffusers' T2IAdapter ("adapter." + ...).

    A full adapter has all its residual blocks in one body, the in_conv of a level in the level's
    first block; a light one nests a body in each level.
    """
    bare = name.removeprefix("adapter.")
    match = re.fullmatch(r"body\.(\d+)\.(in_conv|out_conv|resnets\.(\d+)\.block\d)\.(\w+)", bare)
    if match is None:
        return bare
    level, part, end = int(match[1]), match[2], match[4]
    if match[3] is None:
        place = f"body.{level}" if is_light else f"body.{level * n_res_blocks}"
        return f"{place}.{part}.{end}"
    layer, block = int(match[3]), part.rpartition(".")[2]
    if is_light:
        return f"body.{level}.body.{layer}.{block}.{end}"
    return f"body.{level * n_res_blocks + layer}.{block}.{end}"
