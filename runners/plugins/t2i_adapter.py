"""T2I-Adapters: a small network whose features are added to the levels of a UNet's encoder.

A diffusers folder, a single file, or a file of the first authors (body.0.block1, ...). Source:
T2I-Adapter, arXiv 2302.08453.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from diffusers import T2IAdapter
from torch import Tensor

from plugins_manifest.errors import UserError
from plugins_manifest.formats.side_files import network_config
from runners.audit import Audit
from runners.base import PluginFile
from runners.families import Family
from runners.plugins.attachment import AttachedT2I, Attachment
from runners.plugins.effect import require_effect
from runners.plugins.ldm_names import adapter_name, renamed
from runners.plugins.network_file import built, load_strictly, read_weights
from runners.plugins.opened import open_plugin
from xadapter.vae import pixels_per_latent

_LIGHT = "out_conv"
_KINDS = ("full_adapter", "light_adapter")


@dataclass(frozen=True)
class T2IPlugin:
    """A T2I-Adapter in memory that fits its side's model."""

    file: PluginFile
    net: T2IAdapter
    audit: Audit

    @contextmanager
    def attached(self, family: Family, *, strength: float) -> Iterator[Attachment]:
        """Yield the network; `strength` multiplies its features."""
        yield Attachment(adapters=(AttachedT2I(self.file.plugin_id, self.net, strength),))


def load_t2i(file: PluginFile, family: Family) -> T2IPlugin:
    """Build the network and load every key strictly.

    Raises `UserError` for missing, unknown and misshapen keys, for a network made for another
    model, and for one that changes nothing.
    """
    opened = open_plugin(file, family)
    state = read_weights(file, opened.weights)
    found = network_config(opened.weights, file.kind)
    config = _config_of(file, state, family) if found is None else found[1]
    _check_fit(file, config, family)
    net: Any = built(file, T2IAdapter, config)
    rows = load_strictly(net, _own_names(state, config, net), file, what="T2I-Adapter")
    plugin = T2IPlugin(file, family.place(net, use="conditions"), Audit(rows))
    return replace(plugin, audit=require_effect(plugin, family, rows))


def _own_names(
    state: Mapping[str, Tensor], config: Mapping[str, Any], net: Any
) -> dict[str, Tensor]:
    if any(key.startswith("adapter.") for key in state):
        return dict(state)

    def original(name: str) -> str:
        is_light = config["adapter_type"] == "light_adapter"
        return adapter_name(name, n_res_blocks=config["num_res_blocks"], is_light=is_light)

    return renamed(state, net.state_dict(), original)


def _config_of(file: PluginFile, state: Mapping[str, Tensor], family: Family) -> dict[str, Any]:
    """Derive the config from a file's shapes: kind, residual blocks a level, channels of the image.

    The levels are those of its side's UNet; pixel unshuffling is by the VAE's factor.
    """
    bare = {key.removeprefix("adapter."): value for key, value in state.items()}
    is_light = any(f".{_LIGHT}." in key for key in bare)
    pipe: Any = family.pipe(file.side)
    levels = list(pipe.unet.config["block_out_channels"])
    first = bare.get("body.0.in_conv.weight" if is_light else "conv_in.weight")
    n_blocks = _n_res_blocks(bare, is_light=is_light, n_levels=len(levels))
    if first is None or n_blocks < 1:
        raise UserError(
            f"plugin {file.plugin_id!r}: {file.path.name} is not a T2I-Adapter of a known layout "
            "(diffusers, or the first authors' full and light ones; no style adapters): "
            "give another file"
        )
    factor = pixels_per_latent(pipe.vae)
    return {
        "adapter_type": _KINDS[is_light],
        "channels": levels[:-1] if is_light else levels,
        "num_res_blocks": n_blocks,
        "downscale_factor": factor,
        "in_channels": max(first.shape[1] // factor**2, 1),
    }


def _n_res_blocks(bare: Mapping[str, Tensor], *, is_light: bool, n_levels: int) -> int:
    """Return the number of residual blocks of a level; 0 if none is found."""
    nested = {m[1] for key in bare if (m := re.match(r"body\.0\.(?:resnets|body)\.(\d+)\.", key))}
    if nested or is_light:
        return len(nested)
    return len({m[1] for key in bare if (m := re.match(r"body\.(\d+)\.block1\.", key))}) // n_levels


def _check_fit(file: PluginFile, config: Mapping[str, Any], family: Family) -> None:
    """Check that the features fit the UNet's levels, for an image of its latents' size."""
    pipe: Any = family.pipe(file.side)
    levels = list(pipe.unet.config["block_out_channels"])
    factor = pixels_per_latent(pipe.vae)
    problems = []
    if config.get("adapter_type") not in _KINDS:
        problems.append(f"it is a {config.get('adapter_type')!r}, known are {', '.join(_KINDS)}")
    channels = list(config["channels"])
    features = [*channels, channels[-1]] if config.get("adapter_type") == _KINDS[1] else channels
    if features != levels:
        problems.append(f"it has levels of widths {features}, not {levels}")
    if config.get("downscale_factor") != factor:
        problems.append(f"it folds the image by {config.get('downscale_factor')}, not by {factor}")
    if problems:
        raise UserError(
            f"plugin {file.plugin_id!r}: the T2I-Adapter is not made for the {file.side} model of "
            f"{family.name!r}: {'; '.join(problems)}; use one made for that model"
        )
