"""Checkpoints and cached training data that are damaged, and folders that are in use."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from filelock import FileLock

from pocket.cached import cached_arrays
from tests.faults.base import Fault, Kind
from tests.faults.damaged_files import DAMAGES
from xadapter.checkpoint import (
    FILE_NAME,
    PREVIOUS_NAME,
    load_checkpoint,
    locked,
    save_checkpoint,
)
from xadapter.errors import TrainingFolderError
from xadapter.mapper import Mapper


def _tiny() -> tuple[Mapper, dict[str, torch.Tensor], torch.optim.Optimizer]:
    torch.manual_seed(0)
    mapper = Mapper(in_channels=(8, 8, 4), out_channels=(8, 8, 4))
    optimizer = torch.optim.AdamW(mapper.parameters(), lr=1e-2)
    averages = {name: weight.detach().clone() for name, weight in mapper.named_parameters()}
    return mapper, averages, optimizer


def _write_two(folder: Path) -> None:
    mapper, averages, optimizer = _tiny()
    for step in (1, 2):
        for weight in mapper.parameters():
            weight.grad = torch.full_like(weight, 0.1)
        optimizer.step()
        save_checkpoint(
            folder,
            parameters=dict(mapper.named_parameters()),
            averages=averages,
            optimizer=optimizer,
            extra={},
            facts={"step": step},
        )


def _resumed_step(folder: Path) -> int | None:
    mapper, averages, optimizer = _tiny()
    parameters = dict(mapper.named_parameters())
    found = load_checkpoint(folder, parameters=parameters, averages=averages, optimizer=optimizer)
    return None if found is None else found[0]["step"]


def _one(folder: Path, *, damage: str, seed: int) -> None:
    _write_two(folder)
    DAMAGES[damage](folder / FILE_NAME, Random(seed))
    assert _resumed_step(folder) == 1


def _older(folder: Path, *, damage: str, seed: int) -> None:
    _write_two(folder)
    DAMAGES[damage](folder / PREVIOUS_NAME, Random(seed))
    assert _resumed_step(folder) == 2


def _both(folder: Path, *, damage: str, seed: int) -> None:
    _write_two(folder)
    rng = Random(seed)
    for name in (FILE_NAME, PREVIOUS_NAME):
        DAMAGES[damage](folder / name, rng)
    if damage == "deleted":
        assert _resumed_step(folder) is None
    else:
        with pytest.raises(TrainingFolderError, match="damaged, and no older checkpoint"):
            _resumed_step(folder)


def _data(folder: Path, *, damage: str, seed: int) -> None:
    made = {"z": np.random.default_rng(seed).normal(size=(4, 3))}
    path = folder / "data" / "z.safetensors"
    cached_arrays(path, lambda: made)
    if damage == "a folder":  # is never deleted
        return
    DAMAGES[damage](path, Random(seed))
    again = cached_arrays(path, lambda: made)
    assert np.array_equal(again["z"], made["z"])
    assert np.array_equal(cached_arrays(path, dict)["z"], made["z"])


def _in_use(folder: Path) -> None:
    with FileLock(folder / ".lock"), pytest.raises(TrainingFolderError, match="another training"):
        locked(folder).__enter__()


def _is_file(folder: Path) -> None:
    (folder / "file").write_text("x")
    with pytest.raises(TrainingFolderError, match="choose another folder"):
        locked(folder / "file").__enter__()


_WAYS = {
    "the last checkpoint": _one,
    "the older checkpoint": _older,
    "both checkpoints": _both,
    "training data": _data,
}


def _faults(rng: Random) -> Iterator[Fault]:
    yield Fault("a folder in use", _in_use)
    yield Fault("a file in place of the folder", _is_file)
    for damage, (what, make) in itertools.product(DAMAGES, _WAYS.items()):
        yield Fault(f"{what}: {damage}", partial(make, damage=damage, seed=rng.randrange(10**6)))


KIND = Kind(
    "checkpoints",
    "B files",
    "a damaged checkpoint is named and the last good one is used",
    _faults,
    count=50,
    sample=5,
)
