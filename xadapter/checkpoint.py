"""The trainer's checkpoint: one safetensors file that resumes a run bit by bit.

Randomness and data order depend on (seed, step) alone, so weights, averages, optimizer moments and
counters are the complete state.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from plugins_manifest.documents import parse_json
from xadapter.errors import SettingError
from xadapter.mapper import Mapper

FILE_NAME = "checkpoint.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_checkpoint(
    folder: Path,
    *,
    mapper: Mapper,
    averages: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, Tensor],
    facts: Mapping[str, Any],
) -> None:
    """Write the checkpoint atomically; `facts` is JSON data (step, settings, running sums)."""
    # one name space per kind: extra.*, mapper.*, average.*, and the three moments of AdamW
    tensors = {f"extra.{name}": value for name, value in extra.items()}
    for name, weight in mapper.named_parameters():
        tensors[f"mapper.{name}"] = weight.detach()
        tensors[f"average.{name}"] = averages[name]
        for moment in _MOMENTS:
            tensors[f"{moment}.{name}"] = optimizer.state[weight][moment]
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    # a run killed while writing keeps its previous checkpoint
    partial = folder / f"{FILE_NAME}.partial"
    save_file(contiguous, partial, metadata={"facts": json.dumps(dict(facts))})
    os.replace(partial, folder / FILE_NAME)


def load_checkpoint(
    folder: Path,
    *,
    mapper: Mapper,
    averages: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Restore everything in place; return (facts, extra), or None if there is no checkpoint.

    Raises `SettingError` for a checkpoint of a mapper of other shapes.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        facts = parse_json(file.metadata()["facts"], name=FILE_NAME)
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, weight in mapper.named_parameters():
        found = stored.get(f"mapper.{name}")
        if found is None or found.shape != weight.shape:
            shape = None if found is None else tuple(found.shape)
            raise SettingError(
                f"{path} belongs to another mapper: {name} is {shape} there, "
                f"{tuple(weight.shape)} here; choose another out_dir"
            )
        with torch.no_grad():
            weight.copy_(found)
            averages[name].copy_(stored[f"average.{name}"])
        optimizer.state[weight] = {
            "exp_avg": torch.empty_like(weight).copy_(stored[f"exp_avg.{name}"]),
            "exp_avg_sq": torch.empty_like(weight).copy_(stored[f"exp_avg_sq.{name}"]),
            "step": stored[f"step.{name}"].to(weight.device),
        }
    prefix = "extra."
    extra = {k[len(prefix) :]: v for k, v in stored.items() if k.startswith(prefix)}
    return facts, extra
