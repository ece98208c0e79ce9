"""ControlNets: no weight of the model changes, the network is handed to the denoiser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor

from plugins_manifest.errors import UserError
from runners.attachments import AttachedControl, Attachment
from runners.audit import Audit
from runners.base import PluginFile
from runners.families import Family, place
from runners.tensor_file import read_tensors

CONTROLNET_FILE = "diffusion_pytorch_model.safetensors"
_N_SHOWN = 4


@dataclass(frozen=True)
class ControlNetPlugin:
    """A ControlNet in memory that fits the base model."""

    file: PluginFile
    net: ControlNetModel
    audit: Audit

    @contextmanager
    def attached(self, family: Family, *, strength: float) -> Iterator[Attachment]:
        """Hand the network over; `strength` is its conditioning scale."""
        yield Attachment(controls=(AttachedControl(self.file.plugin_id, self.net, strength),))


def load_controlnet(file: PluginFile, family: Family) -> ControlNetPlugin:
    """Build the network from its config and load every key strictly: no weight stays random.

    Raises `UserError` for missing, unknown and misshapen keys, and for another base model.
    """
    weights, config_file = file.path / CONTROLNET_FILE, file.path / "config.json"
    if not weights.is_file() or not config_file.is_file():
        raise UserError(
            f"plugin {file.plugin_id!r}: {file.path.name} is no ControlNet folder; it must hold "
            f"config.json and {CONTROLNET_FILE}"
        )
    state = read_tensors(file, weights)
    config = json.loads(config_file.read_text(encoding="utf-8"))
    net: Any = ControlNetModel.from_config(config)
    _check_keys(file, {k: v.shape for k, v in net.state_dict().items()}, state)
    net.load_state_dict(state)
    _check_fit(file, net.config, family)
    placed = place(net, device=family.device, dtype=family.dtype)
    return ControlNetPlugin(file, placed, Audit(()))


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


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _N_SHOWN} more" if len(names) > _N_SHOWN else ""
    return ", ".join(names[:_N_SHOWN]) + more
