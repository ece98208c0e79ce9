"""ControlNets by their keys: diffusers' own, the original ones, and differences to the base UNet.

A ControlNet is a copy of the UNet's first half with zero convolutions and a small encoder of the
condition image; so its keys and shapes follow from the UNet's table. Source: ControlNet,
arXiv 2302.05543; the keys of diffusers' ControlNetModel and of lllyasviel's ControlLDM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
from plugins_manifest.formats.sgm import sgm_modules
from plugins_manifest.formats.table import CROSS_DIMS, UNET, modules_of

KIND = "controlnet"
_DIFFUSERS = re.compile(r"controlnet_(?:cond_embedding|down_blocks|mid_block)\..+")
_ORIGINAL = re.compile(r"(?:control_model\.)?(?:input_hint_block|zero_convs)\..+")
_HINT_BLOCK = re.compile(r"controlnet_cond_embedding\.blocks\.\d+\.(?:weight|bias)")
_EVEN_HINT = re.compile(r"controlnet_cond_embedding\.blocks\.\d*[02468]\.weight")
_COPIED = re.compile(r"unet\.(?:conv_in|time_embedding|add_embedding|down_blocks|mid_block)\b.*")
_SOURCE = re.compile(
    r"unet\.down_blocks\.(\d+)\.(resnets|downsamplers)\.(\d+)\.(?:conv2|conv)\.weight"
)
_MIDDLE = f"{UNET}mid_block.resnets.0.conv2.weight"
_PREFIX = "control_model."
_DIFFERENCE, _DIFFERENCE_LAYOUT = "difference", "controlnet-difference"
_HINT_LAYERS = range(0, 16, 2)
# The first original files are checkpoints with a ControlNet inside; these parts are not needed.
_BASE_COPY = re.compile(
    r"(?:model\.diffusion_model|first_stage_model|cond_stage_model|model_ema)\..+"
    r"|(?:sqrt_|log_|posterior_)?[a-z_]*(?:alphas?|betas|variance|mean_coef[12])[a-z0-9_]*"
)
Expected = Mapping[str, tuple[int, ...] | None]


def _recognizes(header: Header, _: ModuleTable) -> bool:
    """Look for a ControlNet's own layers."""
    return any(_DIFFUSERS.fullmatch(key) or _ORIGINAL.fullmatch(key) for key in header.tensors)


def _parse(header: Header, table: ModuleTable) -> ParsedPlugin:
    """Compare a ControlNet's keys with those that follow from the base UNet."""
    keys = header.tensors.keys()
    if _DIFFERENCE in keys:
        why = (
            "a difference ControlNet, to be added to the base model's own weights; give a full "
            "ControlNet"
        )
        return ParsedPlugin(
            _DIFFERENCE_LAYOUT,
            f"unsupported:{_DIFFERENCE_LAYOUT}",
            _base(header),
            unknown_keys=tuple(keys),
            problems=(Problem("unsupported-kind", why),),
        )
    if any(_DIFFUSERS.fullmatch(key) for key in keys):
        layout, expected = "controlnet", _diffusers_keys(table)
        found = {key: key for key in keys}
        hint = _hint_layers(found)
    else:
        layout, expected = "controlnet-ldm", _original_keys(table)
        found = {key.removeprefix(_PREFIX): key for key in keys if not _BASE_COPY.fullmatch(key)}
        hint = [f"input_hint_block.{i}" for i in _HINT_LAYERS]
    roles = {key: "base-model" for key in keys if _BASE_COPY.fullmatch(key)}
    roles |= {
        key: "network"
        for name, key in found.items()
        if name in expected or _HINT_BLOCK.fullmatch(name)
    }
    base = _base(header)
    missing = [name for name in expected if name not in found]
    problems = [
        *base_problems(base, table),
        *missing_problems(missing, keys="keys of a ControlNet"),
        *shape_problems(header, expected, found),
        *_hint_problems(header, found, hint, table.get(f"{UNET}conv_in.weight", (0,))[0]),
    ]
    return network_plugin(
        header,
        kind=KIND,
        name="ControlNet",
        layout=layout,
        base=base,
        roles=roles,
        problems=problems,
    )


def _hint_layers(found: Mapping[str, str]) -> list[str]:
    """Return the convolutions of the hint's encoder in diffusers' names, in their order."""
    n_blocks = 2 * sum(bool(_EVEN_HINT.fullmatch(name)) for name in found)
    blocks = [f"blocks.{i}" for i in range(n_blocks)]
    return [f"controlnet_cond_embedding.{name}" for name in ("conv_in", *blocks, "conv_out")]


def _hint_problems(
    header: Header, found: Mapping[str, str], layers: Sequence[str], n_out: int
) -> list[Problem]:
    """Check that each convolution of the hint's encoder takes what the one before it gives.

    The first of each pair of blocks keeps the width; the last leads into the network.
    """
    problems, before = [], 0
    for place, layer in enumerate(layers):
        keys = [found.get(f"{layer}.{part}", "") for part in ("weight", "bias")]
        weight, bias = (header.tensors[key].shape if key else None for key in keys)
        if weight is None or bias is None:
            if ".blocks." in layer:  # the others are among the expected keys
                problems += missing_problems([f"{layer}.*"], keys="convolutions")
            continue
        own = weight[0] if weight else 0
        is_kept = place % 2 == 1 and layer != layers[-1]
        width = n_out if layer == layers[-1] else before if is_kept else own
        wanted = (width, before or (weight[1] if len(weight) > 1 else 0), 3, 3)
        for key, shape, needed in ((keys[0], weight, wanted), (keys[1], bias, wanted[:1])):
            if shape != needed:
                message = f"{key} is {list(shape)}, after the layer before it {list(needed)}"
                problems.append(Problem("bad-shape", message, key))
        before = width
    return problems


def _base(header: Header) -> BaseModel:
    for key, info in header.tensors.items():
        if key.endswith("attn2.to_k.weight") and len(info.shape) == 2:
            return CROSS_DIMS.get(info.shape[1], "unknown")
    return "unknown"


def _zero_convs(table: ModuleTable) -> list[tuple[int, ...]]:
    """Return the shapes of the zero convolutions: conv_in, each resnet, each downsampler, middle.

    The down blocks come in order, the downsampler of each after its resnets.
    """
    found = (_SOURCE.fullmatch(name) for name in table)
    places = sorted(
        (int(match[1]), match[2] == "downsamplers", int(match[3]), table[match[0]][0])
        for match in found
        if match
    )
    first, middle = table.get(f"{UNET}conv_in.weight", (0,))[0], table.get(_MIDDLE, (0,))[0]
    widths = [first, *(place[-1] for place in places), middle]
    return [(width, width, 1, 1) for width in widths]


def _with_zero_convs(table: ModuleTable, names: str, middle: str) -> Expected:
    *own, last = _zero_convs(table)
    modules = {names.format(i): shape for i, shape in enumerate(own)} | {middle: last}
    weights = {f"{module}.weight": shape for module, shape in modules.items()}
    return weights | {f"{module}.bias": shape[:1] for module, shape in modules.items()}


def _diffusers_keys(table: ModuleTable) -> Expected:
    copied: dict[str, tuple[int, ...] | None] = {
        name.removeprefix(UNET): shape for name, shape in table.items() if _COPIED.fullmatch(name)
    }
    hints = [f"controlnet_cond_embedding.{layer}" for layer in ("conv_in", "conv_out")]
    hint_keys = {f"{hint}.{param}": None for hint in hints for param in ("weight", "bias")}
    zeros = _with_zero_convs(table, "controlnet_down_blocks.{}", "controlnet_mid_block")
    return {**copied, **hint_keys, **zeros}


def _original_keys(table: ModuleTable) -> Expected:
    copied: dict[str, tuple[int, ...] | None] = {
        f"{original}.{param}": table[f"{module}.{param}"]
        for original, module in sgm_modules(modules_of(table)).items()
        if _COPIED.fullmatch(module)
        for param in ("weight", "bias")
        if f"{module}.{param}" in table
    }
    hints = [f"input_hint_block.{i}" for i in _HINT_LAYERS]
    hint_keys = {f"{hint}.{param}": None for hint in hints for param in ("weight", "bias")}
    zeros = _with_zero_convs(table, "zero_convs.{}.0", "middle_block_out.0")
    return {**copied, **hint_keys, **zeros}


PARSER = FileParser(
    layouts={
        "controlnet": "`controlnet_cond_embedding...` (diffusers)",
        "controlnet-ldm": "`control_model....` or bare `input_hint_block...` (original)",
        _DIFFERENCE_LAYOUT: "original keys and `difference`: deltas to the base UNet",
    },
    recognizes=_recognizes,
    parse=_parse,
)
