"""Write run directories with random numbers in real files, for tests of the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.store.files import png_bytes, write_bytes, write_json
from bench.store.run_store import RunStore

Losses = Mapping[str | None, float]  # of each adapter; None: the single one
METHODS = {"base": [None], "floor": [None], "sdedit": [0.5, 0.9], "xadapter": [0.5, 0.9]}
PLUGINS = {"canny-net": "controlnet", "ink-lora": "lora"}
METRICS = {"canny-net": "edge-f1", "ink-lora": "style-clip-i"}
LEVEL = {"base": 0.9, "floor": 0.2, "sdedit": 0.5, "xadapter": 0.7}
_OPEN = {"verdict": "open", "verdict_more_prompts": 40}
REGRESSION = {
    "verdict": "regression",
    "created": "2026-11-21T11:00:00+00:00",
    "baseline": {"run_id": "old-id"},
    "tests": [{"plugin": "ink-lora", "metric": "style-clip-i", "verdict": "regression"}],
}


def write_results(
    folder: Path,
    *,
    created: str = "2026-11-20T10:00:00+00:00",
    adapter: str = "a" * 64,
    n_cases: int = 15,
    n_seeds: int = 2,
    loss: float = 0.0,
    adapters: Mapping[str, float] | None = None,
    prompt: str = "a small red circle",
    n_scored: int | None = None,
    images: bool = True,
) -> RunStore:
    """Write a complete run of two plugins; `loss` lowers the retention of X-Adapter.

    `adapters` are several with the loss of each, instead of a single one with `loss`.
    """
    losses = {None: loss} if adapters is None else {**adapters}
    store = RunStore(folder)
    folder.mkdir(parents=True)
    facts = {"run_id": f"{folder.name}-id", "status": "complete", "family": "pocket"}
    facts |= {"created": created, "command": "xbench run --manifest drawn", "manifest": "drawn"}
    facts |= {"adapter_sha256": adapter, "counts": {"trials": 0, "failed": 0}}
    facts |= {"weights": {"mapper": adapter}, "versions": {"python": "3.11", "torch": "2.15"}}
    facts |= {"device": {"kind": "cpu", "name": "drawn", "threads": 1}}
    facts |= {"manifest_fingerprint": "f" * 64, "git": {"commit": "c" * 40, "changed": False}}
    store.write_run_facts(facts)
    store.write_manifest(_manifest())
    trials = _trials(n_cases, n_seeds, prompt=prompt, tag=adapter[:3], adapters=list(losses))
    store.write_trials(trials)
    if images:
        _write_conditions(store, trials)
    store.write_results("all", [_result(store, t, images=images) for t in trials])
    rng = np.random.default_rng(7)
    for metric in set(METRICS.values()):
        rows = [_score(t, metric, rng, losses) for t in trials if METRICS[t["plugin"]] == metric]
        store.write_scores(metric, pd.DataFrame(rows))
    store.write_table("summary", pd.DataFrame(list(_summary(losses))))
    store.write_table("compatibility", pd.DataFrame(list(_compatibility(losses))))
    _write_audit(store)
    return store


def _manifest() -> dict[str, Any]:
    net = {"id": "canny-net", "kind": "controlnet", "condition": "canny", "license": "Apache-2.0"}
    lora = {"id": "ink-lora", "kind": "lora", "trigger": "ink drawing", "license": "MIT"}
    plugins = [{**p, "source": f"pocket:{p['id']}", "sha256": "d" * 64} for p in (net, lora)]
    return {"schema": 1, "name": "drawn", "family": "pocket", "plugins": plugins}


def _trials(
    n_cases: int, n_seeds: int, *, prompt: str, tag: str, adapters: Sequence[str | None]
) -> list[dict[str, Any]]:
    return [
        {
            "trial_id": f"{tag}-{plugin}-{method}-{t0}-{case}-{seed}{f'-{own}' if own else ''}",
            "plugin": plugin,
            "kind": kind,
            "stack": "[]",
            "method": method,
            "t0": t0,
            "plugin_scale": 1.0,
            "adapter_scale": 1.0 if method == "xadapter" else None,
            "adapter": own,
            "case_id": f"case-{case:03}",
            "base_prompt": prompt,
            "upgraded_prompt": prompt,
            "negative_prompt": "",
            "condition_path": f"conditions/canny/case-{case:03}.png" if plugin[0] == "c" else None,
            "seed": seed,
        }
        for plugin, kind in PLUGINS.items()
        for method, t0s in METHODS.items()
        for t0 in t0s
        for own in (adapters if method == "xadapter" else [None])
        for case in range(n_cases)
        for seed in range(n_seeds)
    ]


def _result(store: RunStore, trial: dict[str, Any], *, images: bool) -> dict[str, Any]:
    row = {"trial_id": trial["trial_id"], "status": "ok", "seconds": 0.5, "origin": "rendered"}
    if not images:
        return row
    shade = int(255 * LEVEL[trial["method"]])
    picture = np.full((32, 32, 3), shade, dtype=np.uint8)
    picture[8:24, 8:24] = (20, 5 * int(trial["case_id"][-3:]) % 255, 200)
    path, sha256 = store.write_image_file(trial["trial_id"], png_bytes(picture))
    return {**row, "image": path, "image_sha256": sha256}


def _write_conditions(store: RunStore, trials: Sequence[dict[str, Any]]) -> None:
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    picture[8:24, 8:24] = 255
    for path in {trial["condition_path"] for trial in trials} - {None}:
        write_bytes(store.folder / path, png_bytes(picture))


def _score(
    trial: dict[str, Any], metric: str, rng: np.random.Generator, losses: Losses
) -> dict[str, Any]:
    level = LEVEL[trial["method"]] - _loss(losses, trial["method"], trial["adapter"])
    return {
        **trial,
        "metric": metric,
        "recipe": "drawn",
        "better": "higher",
        "level": "image",
        "value": float(np.clip(rng.normal(level, 0.05), 0, 1)),
    }


def _loss(losses: Losses, method: str, adapter: str | None) -> float:
    return losses[adapter] if method == "xadapter" else 0.0


def _arms(losses: Losses) -> Sequence[tuple[str, str, str, float | None, str | None]]:
    return [
        (plugin, kind, method, t0, own)
        for plugin, kind in PLUGINS.items()
        for method, t0s in METHODS.items()
        for t0 in t0s
        for own in (losses if method == "xadapter" else [None])
    ]


def _summary(losses: Losses) -> Any:
    for plugin, kind, method, t0, own in _arms(losses):
        value = LEVEL[method] - _loss(losses, method, own)
        yield {
            **{"plugin": plugin, "kind": kind, "method": method, "t0": t0, "plugin_scale": 1.0},
            **{"metric": METRICS[plugin], "recipe": "drawn", "better": "higher", "n": 30},
            **{"value": value, "low": value - 0.05, "high": value + 0.05, "seconds": 0.5},
            "adapter": own,
        }


def _compatibility(losses: Losses) -> Any:
    """Yield settings and methods; of X-Adapter's, t0 0.9 is to be used."""
    for plugin, kind, method, t0, own in _arms(losses):
        keeps = (LEVEL[method] - _loss(losses, method, own) - 0.2) / 0.7
        distance = {"base": 0.5, "floor": 0.0}.get(method, 0.5 - (t0 or 0.0) / 2)
        row = {
            **{"plugin": plugin, "kind": kind, "method": method, "t0": t0, "status": "measured"},
            **{"retention": keeps, "retention_low": keeps - 0.1, "retention_high": keeps + 0.1},
            **{"quality": distance, "quality_metric": "drawn-kid", "quality_reference": "segment"},
            **{"quality_low": distance - 0.1, "quality_high": distance + 0.1},
            **{"plugin_scale": 1.0, "adapter_scale": 1.0 if method == "xadapter" else None},
            **{"function_metric": METRICS[plugin], "seconds": 0.5, "n": 120, "n_prompts": 60},
            **{"recommended": False, "recipe": "drawn", "adapter": own},
        }
        if method in ("base", "floor"):
            yield {**row, "level": "setting"}
            continue
        is_to_use = method == "xadapter" and t0 == 0.9
        row |= {"verdict": "works", "verdict_p": 0.01} if keeps > 0.6 else _OPEN
        row |= {"quality_word": "like the new model" if t0 == 0.9 else "between"}
        row |= {"among_best": method == "xadapter", "recommended": is_to_use}
        value = keeps * (1 - distance)
        yield {**row, "level": "setting", "sort_value": value}
        if t0 == 0.9:
            ends = {"sort_value_low": value - 0.05, "sort_value_high": value + 0.05}
            ends |= {"kept": value, "kept_low": value - 0.05, "kept_high": value + 0.05}
            yield {**row, **ends, "level": "method", "sort_value": value, "kept_t0s": ""}


def _write_audit(store: RunStore) -> None:
    from bench.store import schema
    from bench.store.files import write_table

    rows = [
        {"plugin": "ink-lora", "module": f"block.{i}", "expected": 1.0, "applied": 1.0 - i % 2}
        | {"missing": bool(i % 2), "extra": False, "reason": "not_in_model" if i % 2 else None}
        for i in range(4)
    ]
    write_table(store.folder / "audit.parquet", pd.DataFrame(rows), schema.AUDIT)


def write_gate(store: RunStore, facts: dict[str, Any]) -> None:
    """Write a gate outcome into a run."""
    write_json(store.folder / "gate.json", facts)


def write_gated_pair(root: Path) -> None:
    """Write two runs, `old` and `new`; the gate of the newer one found a regression."""
    write_results(root / "old")
    later = "2026-11-21T10:00:00+00:00"
    store = write_results(root / "new", adapter="b" * 64, created=later, loss=0.2)
    write_gate(store, REGRESSION)
