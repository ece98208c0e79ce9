"""One row for each plugin, method, settings and metric: tables/summary.parquet.

Intervals draw whole prompts; differences to the base model pair (case, seed). The same scores give
the same table, bit by bit. Loads no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench import schema
from bench.score import read_scores
from bench.store import RunStore
from metrics.stats import (
    Estimate,
    clustered_mean,
    jackknife,
    paired_difference,
    paired_jackknife,
    sign_flip_p,
)

METHOD_ORDER = ("base", "sdedit", "xadapter", "oracle", "floor")
_PairKey = tuple[str, int]


@dataclass(frozen=True)
class Arm:
    """A way to make images under one plugin: what a row of the summary is about."""

    plugin: str
    kind: str
    method: str
    t0: float | None
    plugin_scale: float | None
    adapter_scale: float | None


_ARM_FIELDS = [field.name for field in fields(Arm)]


@dataclass(frozen=True)
class Cell:
    """The scores of one arm under one metric.

    `by_pair` holds image scores by (case id, seed); `group` a set metric's value with its
    leave-one-prompt-out values, over `n` images.
    """

    arm: Arm
    metric: str
    recipe: str
    better: str
    by_pair: Mapping[_PairKey, float]
    group: tuple[float, Mapping[str, float]] | None
    n: int


class Scores:
    """A run's scores by arm and metric, with the prompts that cluster them.

    `arms` are in reading order: by plugin, then method, then t0 and scales.
    """

    def __init__(self, frame: pd.DataFrame, prompt_of: Mapping[str, str]) -> None:
        self.prompt_of = prompt_of
        self.cells: dict[tuple[Arm, str], Cell] = {}
        for key, rows in frame.groupby([*_ARM_FIELDS, "metric"], dropna=False, sort=False):
            arm = _arm(key)
            self.cells[arm, rows["metric"].iloc[0]] = _cell(arm, rows)
        self.arms = sorted({arm for arm, _ in self.cells}, key=arm_order)
        self.metrics = sorted({metric for _, metric in self.cells})

    def estimate(self, arm: Arm, metric: str) -> Estimate:
        """Mean (or a set metric's value) with its interval."""
        cell = self.cells[arm, metric]
        if cell.group is not None:
            return jackknife(*cell.group, n=cell.n)
        pairs = sorted(cell.by_pair)
        values = [cell.by_pair[pair] for pair in pairs]
        return clustered_mean(values, [self.prompt_of[case_id] for case_id, _ in pairs])

    def difference(self, arm: Arm, other: Arm, metric: str) -> Estimate:
        """Mean of arm - other over their common (case, seed) pairs, with its interval."""
        a, b = self.cells.get((arm, metric)), self.cells.get((other, metric))
        if a is None or b is None:
            return Estimate(None, None, None, 0, 0, "one side has no scores")
        if a.group is not None and b.group is not None:
            return paired_jackknife(a.group, b.group, n=min(a.n, b.n))
        return paired_difference(a.by_pair, b.by_pair, cluster_of=self.prompt_of)

    def p_value(self, arm: Arm, other: Arm, metric: str) -> float | None:
        """Two-sided p of no difference between two arms; None for set metrics and few prompts."""
        a, b = self.cells.get((arm, metric)), self.cells.get((other, metric))
        if a is None or b is None or a.group is not None:
            return None
        pairs = sorted(a.by_pair.keys() & b.by_pair.keys())
        differences = [a.by_pair[pair] - b.by_pair[pair] for pair in pairs]
        return sign_flip_p(differences, [self.prompt_of[case_id] for case_id, _ in pairs])

    def base_of(self, arm: Arm) -> Arm | None:
        """The base arm of the same plugin and plugin scale, else the one nearest to scale 1."""
        found = [a for a in self.arms if a.plugin == arm.plugin and a.method == "base"]
        wanted = 1.0 if arm.plugin_scale is None else arm.plugin_scale
        exact = [a for a in found if a.plugin_scale == wanted]
        near = sorted(found, key=lambda a: abs((a.plugin_scale or 1.0) - 1.0))
        return (exact or near or [None])[0]


def read_run_scores(run: RunStore | Path) -> Scores:
    """The scores of a run's planned trials."""
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    trials, frame = store.trials(), read_scores(store)
    planned = frame["trial_id"].isna() | frame["trial_id"].isin(trials["trial_id"])
    prompts = dict(zip(trials["case_id"], trials["upgraded_prompt"], strict=True))
    return Scores(frame[planned], prompts)


def summarise(run: RunStore | Path) -> pd.DataFrame:
    """Make tables/summary.parquet from the scores and return it: columns of `schema.SUMMARY`."""
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    scores = read_run_scores(store)
    costs = _costs(store)
    rows = [
        _summary_row(scores, arm, metric, costs)
        for arm in scores.arms
        for metric in scores.metrics
        if (arm, metric) in scores.cells
    ]
    frame = pd.DataFrame(rows, columns=schema.SUMMARY.names)
    store.write_summary(frame)
    return frame


def arm_order(arm: Arm) -> tuple[Any, ...]:
    """Sort key of the reading order."""
    known = arm.method in METHOD_ORDER
    place = METHOD_ORDER.index(arm.method) if known else len(METHOD_ORDER) - 1.5
    knobs = [-1.0 if k is None else k for k in (arm.t0, arm.plugin_scale, arm.adapter_scale)]
    return (arm.plugin, place, arm.method, *knobs)


def _cell(arm: Arm, rows: pd.DataFrame) -> Cell:
    first = rows.iloc[0]
    there = rows[rows["value"].notna()]
    is_group, group = first["level"] == "group", None
    by_pair: dict[_PairKey, float] = {}
    if is_group and len(there):
        left_out = there["leave_one_out"].iloc[0]
        parts = json.loads(left_out) if isinstance(left_out, str) else {}
        group = (float(there["value"].iloc[0]), parts)
    elif not is_group:
        pairs = zip(there["case_id"], there["seed"].astype(int), there["value"], strict=True)
        by_pair = {(case_id, seed): float(value) for case_id, seed, value in pairs}
    n = int(there["n"].sum())
    return Cell(arm, first["metric"], first["recipe"], first["better"], by_pair, group, n)


def _summary_row(
    scores: Scores, arm: Arm, metric: str, costs: Mapping[Arm, tuple[float | None, float | None]]
) -> dict[str, Any]:
    cell, estimate = scores.cells[arm, metric], scores.estimate(arm, metric)
    base = scores.base_of(arm)
    delta = Estimate(None, None, None, 0, 0, "this is the base")
    if base is not None and arm != base:
        delta = scores.difference(arm, base, metric)
    floor_cost = costs.get(Arm("", "", arm.method, arm.t0, arm.plugin_scale, arm.adapter_scale))
    seconds, peak_memory_mib = costs.get(arm) or floor_cost or (None, None)
    return {
        **{name: getattr(arm, name) for name in _ARM_FIELDS},
        "metric": metric,
        "recipe": cell.recipe,
        "better": cell.better,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": cell.n,
        "delta_to_base": delta.value,
        "delta_low": delta.low,
        "delta_high": delta.high,
        "seconds": seconds,
        "peak_memory_mib": peak_memory_mib,
    }


def _costs(store: RunStore) -> dict[Arm, tuple[float | None, float | None]]:
    """Mean seconds and largest peak memory of each arm's finished images; floor is plugin ""."""
    merged = store.trials().merge(store.results(), on="trial_id")
    finished = merged[merged["status"] == "ok"]
    costs = {}
    for key, rows in finished.groupby(_ARM_FIELDS, dropna=False, sort=False):
        arm = _arm(key)
        arm = arm if arm.plugin else replace(arm, kind="")
        costs[arm] = (_or_none(rows["seconds"].mean()), _or_none(rows["peak_memory_mib"].max()))
    return costs


def _arm(key: Any) -> Arm:
    """An arm from a group's key, which starts with the arm's fields; missing knobs become None."""
    plugin, kind, method, *knobs = tuple(key)[: len(_ARM_FIELDS)]
    texts = ["" if pd.isna(text) else str(text) for text in (plugin, kind, method)]
    return Arm(*texts, *(_or_none(knob) for knob in knobs))


def _or_none(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
