"""ControlNets: the network runs beside the UNet, whose weights stay unchanged.

A diffusers folder, a single file (with the config beside it, else that of the model it is made
for), or a file of the first authors (control_model.*). Source: ControlNet, arXiv 2302.05543.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from diffusers import ControlNetModel
from torch import Tensor

from plugins_manifest.errors import UserError
from plugins_manifest.formats.side_files import network_config
from plugins_manifest.formats.usable import pooling_problem
from runners.audit import Audit
from runners.base import PluginFile
from runners.families import Family
from runners.plugins.attachment import AttachedControl, Attachment
from runners.plugins.effect import require_effect
from runners.plugins.ldm_names import LDM_PREFIX, controlnet_name, renamed
from runners.plugins.network_file import built, load_strictly, read_weights
from runners.plugins.opened import OpenedFile, open_plugin

_HINT = "controlnet_cond_embedding"
_ORIGINAL_HINT = r"(?:control_model\.)?input_hint_block\.(\d+)\.weight"


@dataclass(frozen=True)
class ControlNetPlugin:
    """A ControlNet in memory that fits its side's model."""

    file: PluginFile
    net: ControlNetModel
    audit: Audit

    @contextmanager
    def attached(self, family: Family, *, strength: float) -> Iterator[Attachment]:
        """Yield the network; `strength` is its conditioning scale."""
        yield Attachment(controls=(AttachedControl(self.file.plugin_id, self.net, strength),))


def load_controlnet(file: PluginFile, family: Family) -> ControlNetPlugin:
    """Build the network and load every key strictly: no weight stays random.

    Raises `UserError` for missing, unknown and misshapen keys, for another kind of file, for a
    network made for another model, and for one that changes nothing.
    """
    opened = open_plugin(file, family)
    state = opened.of_network(read_weights(file, opened.weights))
    unet: Any = family.pipe(file.side).unet
    config = _config(file, opened)
    if config is not None:
        _check_fit(file, config, unet, family)
    net: Any = built(file, ControlNetModel, _config_for(unet, state) if config is None else config)
    rows = load_strictly(net, _own_names(state, net), file, what="ControlNet")
    plugin = ControlNetPlugin(file, family.place(net, use="denoising"), Audit(rows))
    return replace(plugin, audit=require_effect(plugin, family, rows))


def _config(file: PluginFile, opened: OpenedFile) -> dict[str, Any] | None:
    """Return the configuration that belongs to the file; None for a single file without one."""
    found = network_config(opened.weights, file.kind)
    if found is not None:
        return found[1]
    why: str | None = None
    if file.path.is_dir():
        why = (
            f"{file.path.name} is not a ControlNet folder, it has no config.json of a "
            "ControlNetModel: fetch it again, or give the file itself"
        )
    else:
        metadata = opened.header.metadata
        why = pooling_problem(opened.weights, metadata, condition=file.condition)
    if why is not None:
        raise UserError(f"plugin {file.plugin_id!r}: {why}")
    return None


def _own_names(state: Mapping[str, Tensor], net: Any) -> dict[str, Tensor]:
    """Return the tensors by diffusers' names, for every layout."""
    if not any(key.startswith((LDM_PREFIX, "input_hint_block.")) for key in state):
        return dict(state)

    def original(name: str) -> str:
        return controlnet_name(
            name,
            layers_per_block=net.config.layers_per_block,
            n_hint_blocks=len(net.controlnet_cond_embedding.blocks),
        )

    bare = {key.removeprefix(LDM_PREFIX): value for key, value in state.items()}
    return renamed(bare, net.state_dict(), original)


def _config_for(unet: Any, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the config of a ControlNet for a UNet: same encoder, the hint's widths from the file.

    Strict loading checks everything else.
    """
    known = inspect.signature(ControlNetModel.__init__).parameters
    config = {key: value for key, value in unet.config.items() if key in known}
    widths = _hint_widths(state)
    return {**config, **({"conditioning_embedding_out_channels": widths} if widths else {})}


def _hint_widths(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Return the widths of the hint's levels: first convolution, then every second block."""
    patterns = (rf"{_HINT}\.blocks\.(\d+)\.weight", _ORIGINAL_HINT)
    found: dict[int, int] = {}
    for key, value in state.items():
        for pattern, is_original in zip(patterns, (False, True), strict=True):
            if match := re.fullmatch(pattern, key):
                position = int(match[1]) // 2 - 1 if is_original else int(match[1])
                found[position] = value.shape[0]
    first = state.get(f"{_HINT}.conv_in.weight")
    if first is not None:
        found[-1] = first.shape[0]
    elif found:
        del found[max(found)]  # the last of the original hint block leads into the network
    return tuple(found[i] for i in sorted(found) if i == -1 or i % 2)


def _check_fit(file: PluginFile, config: Mapping[str, Any], unet: Any, family: Family) -> None:
    problems = []
    for name in ("block_out_channels", "cross_attention_dim", "layers_per_block", "in_channels"):
        found, needed = _plain(config.get(name)), _plain(unet.config[name])
        if found is not None and found != needed:
            problems.append(f"{name} {found}, not {needed}")
    if problems:
        raise UserError(
            f"plugin {file.plugin_id!r}: the ControlNet is not made for the {file.side} model of "
            f"{family.name!r}: it has {'; '.join(problems)}; use one made for that model"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
