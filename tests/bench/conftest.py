"""Runs without models: a renderer that paints, and the shipped pocket weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.plan.conditions import ConditionSet
from bench.plan.job import Job, resolve_job
from bench.plan.plan import Plan, make_plan
from bench.plan.selection import Selection
from plugins_manifest.schema.load import parse_manifest
from plugins_manifest.schema.manifest import Manifest
from pocket.weights import PARTS, WeightsError, part_path
from runners.base import RenderCase, Rendered, RenderSettings, Stack, Variant
from tests.bench.plugin_bytes import plugin_bytes

SMALL = """\
schema: 1
name: small
family: pocket
plugins:
  - {id: lora, kind: lora, source: lora.bin, trigger: outline drawing}
  - {id: net, kind: controlnet, source: net.bin, condition: canny}
cases: {source: pocket, seed: 5, n: 3}
methods:
  - name: base
  - name: floor
  - {name: sdedit, t0: [0.5, 1.0]}
  - {name: xadapter, t0: [0.5], adapter_scale: [1.0]}
settings: {base_size: [64, 64], upgraded_size: [128, 128], steps: 4}
"""
WEIGHTS = {"base": "b" * 64, "upgraded": "u" * 64, "mapper": "m" * 64}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XBENCH_CACHE", str(folder))
    return folder


@pytest.fixture
def manifest_file(tmp_path: Path) -> Path:
    """Return a small manifest with two plugin files beside it."""
    for name in ("lora", "net"):
        (tmp_path / f"{name}.bin").write_bytes(plugin_bytes(name))
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def manifest(manifest_file: Path) -> Manifest:
    return parse_manifest(SMALL, manifest_file)


def job_of(manifest: Manifest, **chosen: object) -> Job:
    """Return a job with made-up family weights."""
    return replace(resolve_job(manifest, Selection(**chosen)), weights=WEIGHTS)


def plan_of(manifest: Manifest, folder: Path | None = None, **chosen: object) -> Plan:
    """Return a plan over made-up family weights."""
    job = job_of(manifest, **chosen)
    return make_plan(job, ConditionSet.of_job(job, folder))


def paint(case: RenderCase, variant: Variant) -> np.ndarray:
    """Return an image that depends on everything that a trial's id depends on."""
    facts = f"{case.base_prompt}|{case.seed}|{variant}|{not case.conditions}"
    seed = int.from_bytes(hashlib.sha256(facts.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


class Painter:
    """A replacement of `run_group`; records its calls, and can fail."""

    def __init__(self, *, bad_method: str | None = None, stop_after: int | None = None) -> None:
        self.calls: list[tuple[str | None, list[str], list[Variant]]] = []
        self.n_images = 0
        self.bad_method = bad_method
        self.stop_after = stop_after

    def __call__(
        self,
        stack: Stack,
        cases: Sequence[RenderCase],
        variants: Sequence[Variant],
        settings: RenderSettings,
    ) -> Iterator[Rendered]:
        name = "+".join(file.plugin_id for file in stack) or None
        self.calls.append((name, [case.case_id for case in cases], list(variants)))
        for variant in variants:
            for i, case in enumerate(cases):
                if self.stop_after is not None and self.n_images >= self.stop_after:
                    raise KeyboardInterrupt
                self.n_images += 1
                if variant.method == self.bad_method:
                    yield Rendered(variant, i, None, 0.5, 1.0, error="ValueError: too bad")
                else:
                    yield Rendered(variant, i, paint(case, variant), 0.5, 1.0, variant.t0)


def has_weights() -> bool:
    try:
        return all(part_path(part) for part in PARTS)
    except WeightsError:
        return False


@pytest.fixture(scope="session")
def pocket_weights() -> None:
    """Needed by tests that render with the shipped models."""
    if not has_weights():
        pytest.skip("pocket weights are missing: make them with scripts/train-pocket")
