"""ControlNets by their keys: diffusers' own, the original ones, and differences to the base UNet.

A ControlNet is a copy of the UNet's first half with zero convolutions and a small encoder of the
condition image; so its keys and shapes follow from the UNet's table. Source: ControlNet,
arXiv 2302.05543; the keys of diffusers' ControlNetModel and of lllyasviel's ControlLDM.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from plugins_manifest.formats.networks import base_problems, missing_problems, network_plugin
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
_COPIED = re.compile(r"unet\.(?:conv_in|time_embedding|down_blocks|mid_block)\b.*")
_PREFIX, _DIFFERENCE = "control_model.", "difference"
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
    if any(_DIFFUSERS.fullmatch(key) for key in keys):
        layout, expected = "controlnet", _diffusers_keys(table)
        found = {key: key for key in keys}
    else:
        layout = "controlnet-difference" if _DIFFERENCE in keys else "controlnet-ldm"
        expected = _original_keys(table)
        found = {key.removeprefix(_PREFIX): key for key in keys if not _BASE_COPY.fullmatch(key)}
    roles = {key: "base-model" for key in keys if _BASE_COPY.fullmatch(key)}
    roles |= {
        key: "network"
        for name, key in found.items()
        if name in expected or _HINT_BLOCK.fullmatch(name)
    }
    if _DIFFERENCE in keys:
        roles[_DIFFERENCE] = "marker"
    base = _base(header)
    missing = [name for name in expected if name not in found]
    problems = [
        *base_problems(base, table),
        *missing_problems(missing, keys="keys of a ControlNet"),
        *_wrong_shapes(header, expected, found),
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


def _wrong_shapes(header: Header, expected: Expected, found: Mapping[str, str]) -> list[Problem]:
    problems = []
    for name, shape in expected.items():
        given = header.tensors[found[name]].shape if name in found else shape
        if shape is not None and given != shape:
            message = f"{found[name]} is {list(given or ())}, the base UNet's is {list(shape)}"
            problems.append(Problem("bad-shape", message, found[name]))
    return problems


def _base(header: Header) -> BaseModel:
    for key, info in header.tensors.items():
        if key.endswith("attn2.to_k.weight") and len(info.shape) == 2:
            return CROSS_DIMS.get(info.shape[1], "unknown")
    return "unknown"


def _n_zero_convs(modules: Iterable[str]) -> int:
    """Count conv_in, and each resnet and each downsampler of the down blocks."""
    place = re.compile(r"unet\.down_blocks\.\d+\.(?:resnets|downsamplers)\.\d+")
    return 1 + len({match[0] for name in modules if (match := place.match(name))})


def _diffusers_keys(table: ModuleTable) -> Expected:
    expected: dict[str, tuple[int, ...] | None] = {
        name.removeprefix(UNET): shape for name, shape in table.items() if _COPIED.fullmatch(name)
    }
    hint = "controlnet_cond_embedding"
    own = [f"controlnet_down_blocks.{i}" for i in range(_n_zero_convs(modules_of(table)))]
    for module in (f"{hint}.conv_in", f"{hint}.conv_out", *own, "controlnet_mid_block"):
        expected |= {f"{module}.weight": None, f"{module}.bias": None}
    return expected


def _original_keys(table: ModuleTable) -> Expected:
    expected: dict[str, tuple[int, ...] | None] = {}
    modules = modules_of(table)
    for original, module in sgm_modules(modules).items():
        if _COPIED.fullmatch(module):
            for param in ("weight", "bias"):
                if f"{module}.{param}" in table:
                    expected[f"{original}.{param}"] = table[f"{module}.{param}"]
    own = [f"zero_convs.{i}.0" for i in range(_n_zero_convs(modules))]
    hints = [f"input_hint_block.{i}" for i in _HINT_LAYERS]
    for module in (*own, *hints, "middle_block_out.0"):
        expected |= {f"{module}.weight": None, f"{module}.bias": None}
    return expected


PARSER = FileParser(
    layouts={
        "controlnet": "`controlnet_cond_embedding...` (diffusers)",
        "controlnet-ldm": "`control_model....` or bare `input_hint_block...` (original)",
        "controlnet-difference": "original keys and `difference`: deltas to the base UNet",
    },
    recognizes=_recognizes,
    parse=_parse,
)
