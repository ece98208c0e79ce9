"""Read networks of plugins from safetensors files, and load them strictly, key by key.

Pickled files are never opened. The audit of such a plugin (ours): every key of the file is used,
every parameter of the network comes from it, and predictions change (`runners.plugins.effect`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from plugins_manifest.errors import UserError
from plugins_manifest.formats.values import LARGEST
from plugins_manifest.memory import memory_explained
from plugins_manifest.text import first_line, shortened
from runners.audit import Audit, AuditRow, PluginNotAppliedError
from runners.base import PluginFile
from xadapter.tensor_file import read_tensor_file


def read_tensors(file: PluginFile, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; raise `UserError` if it is missing or not one."""
    try:
        with memory_explained(f"plugin {file.plugin_id!r}, {path.name}"):
            return read_tensor_file(path)
    except FileNotFoundError as error:
        raise UserError(f"plugin {file.plugin_id!r}: there is no file {str(path)!r}") from error
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"plugin {file.plugin_id!r}: {path.name} is not a safetensors file ({error}); pickled "
            "weights are never opened, convert the file to safetensors"
        ) from error


def read_weights(file: PluginFile, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a plugin in float32; raise `UserError` for values beyond float16's."""
    state = {key: value.float() for key, value in read_tensors(file, path).items()}
    broken = sorted(key for key, value in state.items() if not bool((value.abs() <= LARGEST).all()))
    if broken:
        rows = [AuditRow(key, n_keys=1, non_finite=1, reason="non-finite") for key in broken]
        raise PluginNotAppliedError(
            f"plugin {file.plugin_id!r}: NaN, infinite or larger values than {LARGEST:g} in "
            f"{shortened(broken)}; fetch it again",
            Audit(tuple(rows)),
        )
    return state


def built(file: PluginFile, network: Any, config: Mapping[str, Any]) -> Any:
    """Return a diffusers network on meta tensors: without weights, and without drawing any.

    Raises `UserError` for a faulty configuration.
    """
    try:
        with torch.device("meta"):
            return network.from_config(dict(config))
    except (TypeError, ValueError, KeyError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(
            f"plugin {file.plugin_id!r}: its configuration makes no {network.__name__} "
            f"({first_line(error)}): fetch it again"
        ) from error


def load_strictly(
    net: nn.Module, state: Mapping[str, Tensor], file: PluginFile, *, what: str
) -> tuple[AuditRow, ...]:
    """Assign the weights of a network; return one audit row per key, read from the network.

    Raises `PluginNotAppliedError`, with all missing, unknown and misshapen keys, unless the keys
    are exactly the network's.
    """
    wanted = {key: value.shape for key, value in net.state_dict().items()}
    _check_keys(wanted, state, file, what)
    net.load_state_dict(dict(state), strict=True, assign=True)
    if kept := [name for name, buffer in net.named_buffers() if buffer.is_meta]:
        raise RuntimeError(f"{type(net).__name__} computes {kept[0]}: it cannot be built empty")
    return tuple(_loaded_row(key, state[key], value) for key, value in net.state_dict().items())


def _check_keys(
    wanted: Mapping[str, torch.Size], state: Mapping[str, Tensor], file: PluginFile, what: str
) -> None:
    missing, unknown = sorted(wanted.keys() - state), sorted(state.keys() - wanted)
    wrong = [key for key in sorted(wanted.keys() & state) if wanted[key] != state[key].shape]
    shapes = {key: f"{key} {tuple(state[key].shape)}, not {tuple(wanted[key])}" for key in wrong}
    problems = [
        f"{len(keys)} {word} ({shortened(keys)})"
        for word, keys in (
            ("missing keys", missing),
            ("unknown keys", unknown),
            ("wrong shapes", list(shapes.values())),
        )
        if keys
    ]
    if not problems:
        return
    rows = (
        *(AuditRow(key, n_keys=1) for key in sorted(wanted.keys() & state) if key not in shapes),
        *(AuditRow(key, missing=True, reason="missing-key") for key in missing),
        *(AuditRow(key, n_keys=1, missing=True, reason="unknown-key") for key in unknown),
        *(
            AuditRow(key, n_keys=1, missing=True, reason="bad-shape", detail=shapes[key])
            for key in wrong
        ),
    )
    raise PluginNotAppliedError(
        f"plugin {file.plugin_id!r}: the weights are not those of this {what}: "
        f"{'; '.join(problems)}; use a file made for this base model, or fetch it again",
        Audit(rows),
    )


def _loaded_row(key: str, expected: Tensor, applied: Tensor) -> AuditRow:
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    error = float((applied - expected).abs().max()) if expected.numel() else 0.0
    return AuditRow(
        key,
        formula="copy",
        n_keys=1,
        expected=float(expected.norm()),
        applied=float(applied.norm()),
        max_error=error / largest if largest else error,
        reason=None if error == 0.0 else "inexact",
        missing=error != 0.0,
    )
