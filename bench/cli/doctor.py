"""Check whether this machine is ready for a run: one finding for each requirement."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, get_args

from bench.errors import UserError, shown_path
from bench.provenance import PACKAGES
from bench.registry import installed, load_entry
from bench.store import cache_folder
from plugins_manifest.installed import Group

MIN_FREE_MIB = 500
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True)
class Finding:
    """The result of one check; `fix` is the advice for a problem."""

    name: str
    state: Literal["ok", "problem"]
    detail: str
    fix: str | None = None


def examine() -> Iterator[Finding]:
    """Run all checks; loads torch."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _packages,
        _entry_points,
        _pocket_weights,
        _folders,
        _devices,
    )
    for check in checks:
        yield from check()


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "problem", "not installed", "install xbench again")


def _entry_points() -> Iterator[Finding]:
    for group in GROUPS:
        names = sorted(installed(group))
        if not names:
            yield Finding(group, "problem", "none installed", "install xbench again")
        broken = []
        for name in names:
            try:
                load_entry(group, name, takes_part=False)
            except UserError as error:
                broken.append(str(error))
        if broken:
            yield Finding(group, "problem", "; ".join(broken), "reinstall their packages")
        elif names:
            yield Finding(group, "ok", ", ".join(names))


def _pocket_weights() -> Iterator[Finding]:
    from pocket.weights import PARTS, WeightsError, part_path

    for part in PARTS:
        try:
            part_path(part)
        except WeightsError as error:
            yield Finding("pocket weights", "problem", str(error), "install xbench again")
            return
    yield Finding("pocket weights", "ok", f"{len(PARTS)} parts, equal to the recorded hashes")


def _folders() -> Iterator[Finding]:
    for name, folder, fix in (
        ("working folder", Path.cwd(), "change to a writable folder"),
        ("image cache", cache_folder(), "set XBENCH_CACHE to a writable folder"),
    ):
        parent = folder.absolute()
        while not parent.exists():
            parent = parent.parent
        free_mib = shutil.disk_usage(parent).free / 2**20
        if not os.access(parent, os.W_OK):
            yield Finding(name, "problem", f"{shown_path(folder)} is not writable", fix)
        elif free_mib < MIN_FREE_MIB:
            yield Finding(name, "problem", f"{free_mib:.0f} MiB free", "free some space")
        else:
            yield Finding(name, "ok", f"{shown_path(folder)}, {free_mib / 1024:.0f} GiB free")


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("cpu", "ok", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()}")
    if torch.cuda.is_available():
        yield Finding("cuda", "ok", torch.cuda.get_device_name())
    elif torch.backends.mps.is_available():
        yield Finding("mps", "ok", "available")
