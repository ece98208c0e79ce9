"""Check whether this machine is ready for a run: one finding for each requirement."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from bench.errors import UserError, shown_path
from bench.plan.conditions import detector_entry
from bench.provenance import PACKAGES
from bench.registry import find_method, find_metric, installed, load_entry
from bench.store import cache_folder
from plugins_manifest.extras import EXTRAS, MissingExtraError, require_extra
from plugins_manifest.installed import Group
from plugins_manifest.schema.references import find_source
from runners.families import find_family

if TYPE_CHECKING:
    from runners.device import CudaFacts

MIN_FREE_MIB = 500
GROUPS: tuple[Group, ...] = get_args(Group)
_FINDERS: dict[Group, Callable[[str], object]] = {
    "methods": find_method,
    "metrics": find_metric,
    "families": find_family,
    "detectors": detector_entry,
    "sources": find_source,
}


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
        _own_packages,
        _extras,
        _packages,
        _entry_points,
        _pocket_weights,
        _folders,
        _hub,
        _metric_weights,
        _devices,
    )
    for check in checks:
        yield from check()


def _own_packages() -> Iterator[Finding]:
    """Report packages of other distributions in the place of ours."""
    (point, *_) = entry_points(group="xbench.apps", name="packages")
    problems = point.load()()
    for problem in problems:
        yield Finding("own packages", "problem", problem.what, problem.fix)
    if not problems:
        yield Finding("own packages", "ok", "each is imported from xbench's own folder")


def _extras() -> Iterator[Finding]:
    """Report extras that are not installed; without `render` this machine cannot run."""
    for extra in EXTRAS:
        try:
            require_extra(extra)
        except MissingExtraError as error:
            yield Finding(f"extra {extra}", "problem" if extra == "render" else "ok", str(error))
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def _packages() -> Iterator[Finding]:
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # `_extras` reports missing ones
            yield Finding(name, "ok", version(name))


def _entry_points() -> Iterator[Finding]:
    for group in GROUPS:
        find = _FINDERS.get(group, partial(load_entry, group, takes_part=False))
        good = []
        for name in sorted(installed(group)):
            try:
                find(name)
            except MissingExtraError:
                continue  # `_extras` reports it
            except UserError as error:
                yield Finding(group, "problem", str(error))
            else:
                good.append(name)
        if good or group == "formulas":  # xbench's own formulas have no entry points
            yield Finding(group, "ok", ", ".join(good) or "those of xbench")
        elif not installed(group):
            yield Finding(group, "problem", "none installed", "install xbench again")


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
        parent = _existing(folder)
        free_mib = shutil.disk_usage(parent).free / 2**20
        if not os.access(parent, os.W_OK):
            yield Finding(name, "problem", f"{shown_path(folder)} is not writable", fix)
        elif free_mib < MIN_FREE_MIB:
            yield Finding(name, "problem", f"{free_mib:.0f} MiB free", "free some space")
        else:
            yield Finding(name, "ok", f"{shown_path(folder)}, {free_mib / 1024:.0f} GiB free")


def _existing(folder: Path) -> Path:
    """Return the folder, or the first above it that exists."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def _devices() -> Iterator[Finding]:
    try:
        import torch
    except ModuleNotFoundError:
        return  # `_extras` reports it
    yield Finding("cpu", "ok", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()}")
    from runners.device import cuda_facts

    if torch.backends.mps.is_available():
        yield Finding("mps", "ok", "available")
    yield from cuda_findings(cuda_facts())


def cuda_findings(facts: CudaFacts) -> Iterator[Finding]:
    """Report the CUDA of torch and of the driver, and each GPU."""
    if not facts.gpus:
        if facts.built_for is not None:
            detail = f"none that torch can use; it is built for CUDA {facts.built_for}"
            yield Finding("gpu", "ok", detail)
        return
    versions = f"torch is built for {facts.built_for}, the driver supports {facts.driver}"
    yield Finding("cuda", "ok", versions)
    for index, gpu in enumerate(facts.gpus):
        name = f"cuda:{index}"
        capability = ".".join(map(str, gpu.capability))
        if not gpu.is_supported:
            detail = f"{gpu.name}: torch has no code for compute capability {capability}"
            yield Finding(name, "problem", detail, "install a torch that is built for it")
            continue
        precision = "float16 and bfloat16" if gpu.has_bfloat16 else "float16, no bfloat16"
        memory = f"{gpu.total_bytes / 2**30:.1f} GiB, {gpu.free_bytes / 2**30:.1f} free"
        detail = f"{gpu.name}, {memory}, compute capability {capability}, {precision}"
        yield Finding(name, "ok", f"{detail}; dtype is that of the manifest's settings")


def _hub() -> Iterator[Finding]:
    """Report the cache of downloaded models, and whether a token is set; it is never printed."""
    try:
        from huggingface_hub import constants, get_token
    except ModuleNotFoundError:
        return  # `_extras` reports it
    folder = Path(constants.HF_HUB_CACHE)
    n_bytes = sum(
        p.lstat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink()
    )
    token = "a token is set" if get_token() else "no token is set (HF_TOKEN)"
    offline = ", offline mode is on" if constants.HF_HUB_OFFLINE else ""
    free = shutil.disk_usage(_existing(folder)).free / 2**30
    detail = f"{shown_path(folder)}, {n_bytes / 2**30:.1f} GiB in use, {free:.0f} GiB free"
    yield Finding("hub cache", "ok", f"{detail}; {token}{offline}")


def _metric_weights() -> Iterator[Finding]:
    """Report which downloaded weights of metrics are present."""
    from metrics.weights import CATALOG, weights_folder

    here = sorted(name for name, weights in CATALOG.items() if weights.is_here)
    missing = sorted(CATALOG.keys() - set(here))
    detail = f"{', '.join(here) or 'none'} in {shown_path(weights_folder())}"
    if missing:
        detail += f"; missing: {', '.join(missing)} (xbench metrics fetch NAME)"
    yield Finding("metric weights", "ok", detail)
