"""Plugins on the base model: attached for a while, and gone without a trace.

A LoRA is merged into the base UNet's and text encoder's own weights (so nothing slows down and
nothing else needs to know); what it changed is put back bit for bit. A ControlNet changes no
weights: it is loaded and handed to the denoiser.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from plugins_manifest.errors import UserError
from runners.base import PluginFile
from runners.families import Family, place
from runners.weights.errors import PluginWeightsError
from runners.weights.kohya_names import kohya_table
from runners.weights.lora import Semantics, fitting_modules, merged_weights

CONTROLNET_FILE = "diffusion_pytorch_model.safetensors"
_N_SHOWN = 4


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin in memory: the tensors of a LoRA, or a ControlNet; attached by `attached`."""

    file: PluginFile
    lora: dict[str, Tensor] | None = None
    controlnet: ControlNetModel | None = None


@dataclass(frozen=True)
class Attached:
    """What an attached plugin adds to the base denoiser besides its weights."""

    controlnet: ControlNetModel | None = None
    control_scale: float = 1.0


def load_plugin(file: PluginFile, family: Family) -> LoadedPlugin:
    """Read a plugin and check it against the family's base model.

    Raises `UserError` for a kind that is not known, a file that is not safetensors, keys that are
    missing or unknown, and shapes that do not fit. Nothing is ever unpickled.
    """
    if file.kind == "lora":
        return LoadedPlugin(file, lora=_read_lora(file, family))
    if file.kind == "controlnet":
        return LoadedPlugin(file, controlnet=_read_controlnet(file, family))
    raise UserError(
        f"plugin {file.plugin_id!r} is of kind {file.kind!r}: this version renders 'lora' and "
        "'controlnet'"
    )


@contextmanager
def attached(
    plugin: LoadedPlugin | None, family: Family, *, scale: float, semantics: Semantics = "standard"
) -> Iterator[Attached]:
    """Attach a plugin to the family's base side; afterwards every weight is as before, bit for bit.

    `scale` times the plugin's own weight multiplies a LoRA's delta and is a ControlNet's
    conditioning scale. None attaches nothing.
    """
    if plugin is None:
        yield Attached()
        return
    strength = scale * plugin.file.weight
    if plugin.controlnet is not None:
        yield Attached(plugin.controlnet, strength)
        return
    targets = kohya_table(family.base.unet, family.base.text_encoder)
    merged = merged_weights(plugin.lora or {}, targets, semantics=semantics, multiplier=strength)
    originals = {name: targets[name].detach().clone() for name in merged}
    try:
        _write(targets, merged)
        yield Attached()
    finally:
        _write(targets, originals)


def _write(targets: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            targets[name].copy_(value)


def _read_lora(file: PluginFile, family: Family) -> dict[str, Tensor]:
    lora = _read_safetensors(file, file.path)
    targets = kohya_table(family.base.unet, family.base.text_encoder)
    try:
        fitting_modules(lora, targets)
    except PluginWeightsError as error:
        raise UserError(
            f"plugin {file.plugin_id!r} ({file.path.name}) does not fit the base model of "
            f"{family.name!r}: {error}"
        ) from error
    return lora


def _read_controlnet(file: PluginFile, family: Family) -> ControlNetModel:
    """Build the network from its config and load every key strictly: no weight stays random."""
    weights, config_file = file.path / CONTROLNET_FILE, file.path / "config.json"
    if not weights.is_file() or not config_file.is_file():
        raise UserError(
            f"plugin {file.plugin_id!r}: {file.path.name} is no ControlNet folder; it must hold "
            f"config.json and {CONTROLNET_FILE}"
        )
    state = _read_safetensors(file, weights)
    config = json.loads(config_file.read_text(encoding="utf-8"))
    net: Any = ControlNetModel.from_config(config)
    _check_keys(file, {k: v.shape for k, v in net.state_dict().items()}, state)
    net.load_state_dict(state)
    _check_fit(file, net.config, family)
    return place(net, device=family.device, dtype=family.dtype)


def _check_keys(file: PluginFile, wanted: dict[str, torch.Size], state: dict[str, Tensor]) -> None:
    problems = []
    for word, keys in (("missing", wanted.keys() - state), ("unknown", state.keys() - wanted)):
        if keys:
            problems.append(f"{len(keys)} {word} keys ({_shown(sorted(keys))})")
    wrong = [k for k in sorted(wanted.keys() & state.keys()) if wanted[k] != state[k].shape]
    if wrong:
        shapes = [f"{k} {tuple(state[k].shape)}, not {tuple(wanted[k])}" for k in wrong]
        problems.append(f"wrong shapes ({_shown(shapes)})")
    if problems:
        raise UserError(
            f"plugin {file.plugin_id!r}: the ControlNet's weights are not those of its config: "
            f"{'; '.join(problems)}; fetch it again"
        )


def _check_fit(file: PluginFile, config: Any, family: Family) -> None:
    base = family.base.unet.config
    for name in ("block_out_channels", "cross_attention_dim", "layers_per_block", "in_channels"):
        ours, theirs = _plain(config[name]), _plain(base[name])
        if ours != theirs:
            raise UserError(
                f"plugin {file.plugin_id!r}: the ControlNet has {name} {ours}, the base model of "
                f"{family.name!r} has {theirs}; use a ControlNet made for this base model"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _read_safetensors(file: PluginFile, path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"plugin {file.plugin_id!r}: there is no file {str(path)!r}") from error
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"plugin {file.plugin_id!r}: {path.name} is not a safetensors file ({error}); pickled "
            "weights are never opened, convert the file to safetensors"
        ) from error


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _N_SHOWN} more" if len(names) > _N_SHOWN else ""
    return ", ".join(names[:_N_SHOWN]) + more
