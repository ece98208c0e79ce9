"""Scores of a run built from means and spreads, one image a prompt; no images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from bench.analysis import Scores, load_thresholds
from bench.analysis.compatibility import plugin_rows
from bench.analysis.measures import PluginMeasures
from bench.analysis.summary import ARM_FIELDS, Arm
from bench.store import schema
from bench.store.rows import Row


def arm(plugin: str, kind: str, method: str, t0: float | None = None) -> Arm:
    scale = None if method in ("floor", "oracle") else 1.0
    return Arm(plugin, kind, method, t0, scale, 1.0 if method == "xadapter" else None)


def spread_out(mean: float, spread: float, *, n: int, seed: int) -> np.ndarray:
    """Return n values with exactly this mean and standard deviation."""
    z = np.random.default_rng(seed).standard_normal(n)
    return mean + spread * (z - z.mean()) / z.std(ddof=1)


def rate(hits: int, n: int, *, seed: int = 0) -> np.ndarray:
    """Return n zeros and ones in an order that the seed shuffles."""
    return np.random.default_rng(seed).permutation(np.arange(n) < hits).astype(float)


def image_rows(of: Arm, metric: str, values: Sequence[float]) -> list[Row]:
    return [
        {
            **row_of(of, metric, "image", "higher"),
            "trial_id": f"{of.method}-{of.t0}-{i}",
            "case_id": f"case-{i:02}",
            "seed": 0,
            "value": float(value),
            "n": 1,
            "leave_one_out": None,
        }
        for i, value in enumerate(values)
    ]


def set_row(of: Arm, metric: str, value: float, spread: float, *, n: int, seed: int) -> list[Row]:
    """Return a set score whose pseudo-values have this spread from prompt to prompt."""
    pseudo = spread_out(value, spread, n=n, seed=seed)
    without = {f"prompt {i:02}": (n * value - x) / (n - 1) for i, x in enumerate(pseudo)}
    facts = {"trial_id": None, "case_id": None, "seed": None, "value": value, "n": n}
    return [{**row_of(of, metric, "group", "lower"), **facts, "leave_one_out": json.dumps(without)}]


def row_of(of: Arm, metric: str, level: str, better: str) -> Row:
    named = {name: getattr(of, name) for name in ARM_FIELDS}
    return {**named, "metric": metric, "recipe": "r", "better": better, "level": level}


def scores_of(rows: Sequence[Row], n: int) -> Scores:
    return Scores(rows, {f"case-{i:02}": f"prompt {i:02}" for i in range(n)})


def table(scores: Scores, plugin: str, seconds: Mapping[str, float] | None = None) -> list[Row]:
    costs = {a: ((seconds or {}).get(a.method), None) for a in scores.arms}
    return [
        {name: row.get(name) for name in schema.COMPATIBILITY.names}
        for row in plugin_rows(PluginMeasures(scores, plugin), costs, load_thresholds())
    ]


def find(rows: Sequence[Row], **wanted: object) -> Row:
    return next(row for row in rows if all(row[k] == v for k, v in wanted.items()))
