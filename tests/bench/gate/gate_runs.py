"""Run directories whose scores are drawn, not measured: the gate's truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.store.run_store import RunStore
from plugins_manifest.cases.cases import Case

PLUGINS = ("net", "style")
T0S = (0.7, 0.9)
POLICY = {
    "schema": 1,
    "looks": [0.5, 1.0],
    "metrics": [
        {"name": "edge-f1", "margin": 0.05},
        {"name": "style-rate", "margin": 0.15},
        {"name": "kid", "margin": 0.2},
    ],
}


def write_run(
    folder: Path,
    *,
    noise_seed: int = 0,
    losses: dict[str, float] | None = None,
    n_cases: int = 60,
    seeds: tuple[int, ...] = (0, 1),
    mapper: str = "a" * 64,
    settings: dict[str, Any] | None = None,
    failed: int = 0,
    device: str = "cpu",
    redrawn: int = 0,
) -> RunStore:
    """Return a finished run; `losses` (metric -> loss) make it worse than a run without.

    Prompts are as hard in every run; `noise_seed` decides what the mapper adds. The first `failed`
    images of X-Adapter are missing; the last `redrawn` differ from those of the same mapper.
    """
    store = RunStore(folder)
    folder.mkdir(parents=True)
    steps = {"steps": 4, "base_size": [64, 64], "upgraded_size": [128, 128], **(settings or {})}
    store.write_run_facts(
        {
            "run_id": folder.name,
            "status": "complete",
            "weights": {"base": "b" * 64, "upgraded": "e" * 64, "mapper": mapper},
            "adapter_sha256": mapper,
            "device": {"kind": device, "name": device, "threads": 1},
            "versions": {"torch": "2.15.0"},
        }
    )
    store.write_manifest(_manifest(steps, seeds))
    cases = [Case(f"case-{i:03}", f"prompt {i}", scene=(5, i)) for i in range(n_cases)]
    store.write_cases(cases)
    trials = [
        _trial(case.case_id, seed, plugin, t0, mapper=mapper)
        for plugin in PLUGINS
        for t0 in T0S
        for seed in seeds
        for case in cases
    ]
    store.write_trials(trials)
    gone = {trial["trial_id"] for trial in trials[:failed]}
    results = [_result(trial, gone) for trial in trials]
    for row in results[len(results) - redrawn :]:
        row["image_sha256"] += " redrawn"
    store.write_results("all", results)
    _write_scores(store, trials, gone, noise_seed=noise_seed, losses=losses or {})
    return store


def _manifest(settings: dict[str, Any], seeds: tuple[int, ...]) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": "drawn",
        "family": "pocket",
        "plugins": [
            {"id": "net", "kind": "controlnet", "source": "net.bin", "condition": "canny"},
            {"id": "style", "kind": "lora", "source": "lora.bin", "trigger": "outline"},
        ],
        "cases": {"source": "pocket", "seed": 5, "n": 60},
        "seeds": list(seeds),
        "methods": [{"name": "base"}, {"name": "xadapter", "t0": list(T0S)}],
        "settings": settings,
    }


def _trial(case_id: str, seed: int, plugin: str, t0: float, *, mapper: str) -> dict[str, Any]:
    return {
        "trial_id": f"{mapper[:4]}-{plugin}-{t0}-{case_id}-{seed}",
        "plugin": plugin,
        "kind": "controlnet" if plugin == "net" else "lora",
        "method": "xadapter",
        "t0": t0,
        "plugin_scale": 1.0,
        "adapter_scale": 1.0,
        "case_id": case_id,
        "upgraded_prompt": case_id,
        "seed": seed,
    }


def _result(trial: dict[str, Any], gone: set[str]) -> dict[str, Any]:
    is_gone = trial["trial_id"] in gone
    return {
        "trial_id": trial["trial_id"],
        "status": "failed" if is_gone else "ok",
        "image": None if is_gone else "images/none.png",
        "image_sha256": None if is_gone else trial["trial_id"],
        "error": "ValueError: the image holds NaN" if is_gone else None,
    }


def _write_scores(
    store: RunStore,
    trials: list[dict[str, Any]],
    gone: set[str],
    *,
    noise_seed: int,
    losses: dict[str, float],
) -> None:
    rows: dict[str, list[dict[str, Any]]] = {"edge-f1": [], "style-rate": [], "kid": []}
    noise = np.random.default_rng([1, noise_seed])
    for trial in trials:
        metric = "edge-f1" if trial["plugin"] == "net" else "style-rate"
        index = int(trial["case_id"][-3:])
        hard = np.random.default_rng([2, index, trial["seed"]]).normal(0, 0.2)
        value = 0.6 + hard + noise.normal(0, 0.08) - losses.get(metric, 0)
        if metric == "style-rate":
            value = float(noise.random() < 0.85 - losses.get(metric, 0))
        is_gone = trial["trial_id"] in gone
        reason = "not rendered: ValueError" if is_gone else None
        rows[metric].append(_row(trial, metric, None if is_gone else value, reason, level="image"))
    for t0 in T0S:
        of_arm = [t for t in trials if (t["plugin"], t["t0"]) == ("net", t0)]
        names = sorted({f"prompt {int(t['case_id'][-3:])}" for t in of_arm})
        values = np.array([np.random.default_rng([3, int(n[7:])]).normal(1, 0.5) for n in names])
        values = values + noise.normal(0, 0.2, len(names)) + losses.get("kid", 0)
        left = {n: float(np.delete(values, i).mean()) for i, n in enumerate(names)}
        row = _row(of_arm[0], "kid", float(values.mean()), None, level="group")
        empty = {"trial_id": None, "case_id": None, "seed": None}
        rows["kid"].append({**row, **empty, "leave_one_out": json.dumps(left), "better": "lower"})
    for metric, found in rows.items():
        store.write_scores(metric, pd.DataFrame(found))


def _row(
    trial: dict[str, Any], metric: str, value: float | None, reason: str | None, *, level: str
) -> dict[str, Any]:
    return {
        **{k: v for k, v in trial.items() if k != "upgraded_prompt"},
        "metric": metric,
        "recipe": f"{metric} as drawn",
        "better": "higher",
        "level": level,
        "value": value,
        "reason": reason,
        "n": 1,
        "leave_one_out": None,
        "inputs": "drawn",
    }
