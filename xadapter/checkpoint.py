"""The trainer's checkpoints: safetensors files that resume a run bit by bit.

Randomness and data order depend on (seed, step) alone, so weights, averages, optimizer moments and
counters are the complete state. The last two are kept: `checkpoint.safetensors` and, before it,
`checkpoint-previous.safetensors`. Each carries the sha256 of its content.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from plugins_manifest.documents import parse_json
from plugins_manifest.errors import UserError
from plugins_manifest.files import atomic_write, replacing, sweep_temporary
from plugins_manifest.text import first_line
from xadapter.errors import SettingError, TrainingFolderError

FILE_NAME = "checkpoint.safetensors"
PREVIOUS_NAME = "checkpoint-previous.safetensors"
_LOCK_NAME = ".lock"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_LOG = logging.getLogger(__name__)
Stored = tuple[dict[str, Any], dict[str, Tensor]]  # facts, tensors


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a training folder for this process; raise `TrainingFolderError` if another has it.

    A thread that has it may lock it again.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK_NAME, timeout=0, is_singleton=True)
        lock.acquire()
    except Timeout as error:
        raise TrainingFolderError(
            f"another training writes into {folder}: wait for it, stop it, or choose another folder"
        ) from error
    except OSError as error:
        raise TrainingFolderError(
            f"{folder} cannot be used ({error.strerror}): choose another folder"
        ) from error
    try:
        sweep_temporary(folder)
        yield
    finally:
        lock.release()


def save_checkpoint(
    folder: Path,
    *,
    parameters: Mapping[str, Tensor],
    averages: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, Tensor],
    facts: Mapping[str, Any],
) -> None:
    """Write the checkpoint atomically; `facts` is JSON data (step, settings, running sums)."""
    # one name space per kind: extra.*, mapper.* (all that learns), average.*, AdamW's moments
    tensors = {f"extra.{name}": value for name, value in extra.items()}
    for name, weight in parameters.items():
        tensors[f"mapper.{name}"] = weight.detach()
        tensors[f"average.{name}"] = averages[name]
        for moment, value in moments_of(optimizer, weight).items():
            tensors[f"{moment}.{name}"] = value
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # one entry: safetensors writes several in no fixed order
    sealed = {**facts, "sha256": _sha256(facts, contiguous)}
    metadata = {"facts": json.dumps(sealed)}
    path = folder / FILE_NAME
    # a run killed in between continues from the previous checkpoint
    with written(path) as draft:
        save_file(contiguous, draft, metadata=metadata)
        if path.is_file():
            path.replace(folder / PREVIOUS_NAME)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield a temporary name for a file or folder that replaces `path` at the end.

    Raises `TrainingFolderError` where it cannot be written, such as on a full disk.
    """
    try:
        with replacing(path) as draft:
            yield draft
    except (SafetensorError, OSError) as error:
        raise TrainingFolderError(
            f"{path} cannot be written ({first_line(error)}): free some space or check the folder, "
            "then run the same command again; the checkpoint before is kept"
        ) from error


def moments_of(optimizer: torch.optim.Optimizer, weight: Tensor) -> dict[str, Tensor]:
    """Return AdamW's state of a parameter: zeros before its first step."""
    state = optimizer.state[weight]
    if not state:
        state["exp_avg"] = torch.zeros_like(weight)
        state["exp_avg_sq"] = torch.zeros_like(weight)
        state["step"] = torch.zeros((), device=weight.device)
    return {moment: state[moment] for moment in _MOMENTS}


def load_checkpoint(
    folder: Path,
    *,
    parameters: Mapping[str, Tensor],
    averages: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Restore everything in place; return (facts, extra), or None if there is no checkpoint.

    A damaged one is named in a warning, and the one before it is used. Raises `SettingError` for
    a checkpoint of a mapper of other shapes, `TrainingFolderError` if all are damaged.
    """
    found = _last_good(folder)
    if found is None:
        return None
    path, (facts, stored) = found
    for name, weight in parameters.items():
        saved = stored.get(f"mapper.{name}")
        if saved is None or saved.shape != weight.shape:
            shape = None if saved is None else tuple(saved.shape)
            raise SettingError(
                f"{path} belongs to another mapper: {name} is {shape} there, "
                f"{tuple(weight.shape)} here; choose another out_dir"
            )
        with torch.no_grad():
            weight.copy_(saved)
            averages[name].copy_(stored[f"average.{name}"])
            for moment, value in moments_of(optimizer, weight).items():
                value.copy_(stored[f"{moment}.{name}"])
    prefix = "extra."
    extra = {k[len(prefix) :]: v for k, v in stored.items() if k.startswith(prefix)}
    return facts, extra


def stored_settings(folder: Path) -> dict[str, Any] | None:
    """Return the settings of the training in a folder; None without a readable checkpoint."""
    for path in (folder / FILE_NAME, folder / PREVIOUS_NAME):
        try:
            with safe_open(path, framework="pt") as file:
                return parse_json((file.metadata() or {})["facts"], name=path.name)["settings"]
        except (SafetensorError, UserError, OSError, KeyError, TypeError):
            continue
    return None


def _last_good(folder: Path) -> tuple[Path, Stored] | None:
    """Return the newest checkpoint that is not damaged; None if there never was one."""
    paths = [folder / FILE_NAME, folder / PREVIOUS_NAME]
    damaged = []
    for path in paths:
        if not path.exists() and not path.is_symlink():
            continue
        if (stored := _read(path)) is not None:
            if damaged:
                _LOG.warning("%s is damaged: training goes on from %s", damaged[0], path.name)
            return path, stored
        damaged.append(path)
    if damaged:
        names = " and ".join(str(path) for path in damaged)
        raise TrainingFolderError(
            f"{names}: damaged, and no older checkpoint is left: delete them to train from the "
            "beginning, or choose another folder"
        )
    return None


def _read(path: Path) -> Stored | None:
    """Return facts and tensors of a checkpoint; None if it is damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = parse_json((file.metadata() or {})["facts"], name=path.name)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        expected = facts.pop("sha256", None)
        is_sound = expected in (None, _sha256(facts, tensors))  # None: of an earlier version
    except (SafetensorError, UserError, OSError, ValueError, KeyError, AttributeError):
        return None
    return (facts, tensors) if is_sound else None


def _sha256(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def trim_log(path: Path, last: int) -> None:
    """Drop the rows of a log after step `last`: steps after a checkpoint are taken again."""
    if not path.exists():
        return
    # a killed run may leave half a row
    rows = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [row for row in rows if 0 < _step_of(row) <= last]
    atomic_write(path, "".join(f"{row}\n" for row in kept))


def _step_of(row: str) -> int:
    """Return the step of a row of a log, 0 for a row that is damaged."""
    try:
        step = parse_json(row, name="the log")["step"]
    except (UserError, KeyError, TypeError):
        return 0
    return step if isinstance(step, int) else 0
