"""One row for each plugin, method, settings and metric: tables/summary.parquet.

Intervals resample whole prompts; differences to the base model pair (case, seed). The same scores
give the same table, bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from bench.registry import method_style
from bench.scoring import content_prompts, read_scores
from bench.store import Row, RunStore, grouped, records, schema
from bench.store.documents import left_out_of
from metrics.stats import Estimate, clustered_mean, paired_difference
from metrics.stats.intervals import jackknife, paired_jackknife, sign_flip_p

Cost = tuple[float | None, float | None]  # mean seconds an image, largest peak memory in MiB
_PairKey = tuple[str, int]


@dataclass(frozen=True)
class Arm:
    """A way to make images with one plugin: the subject of a row of the summary.

    `adapter` is the id of one of several mappers, None where the run has one.
    """

    plugin: str
    kind: str
    method: str
    t0: float | None
    plugin_scale: float | None
    adapter_scale: float | None
    adapter: str | None = None


ARM_FIELDS = [field.name for field in fields(Arm)]


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

    def __init__(self, rows: Sequence[Row], prompt_of: Mapping[str, str]) -> None:
        self.prompt_of = prompt_of
        self._supports: dict[tuple[str, str], tuple[float, float]] = {}
        self.cells: dict[tuple[Arm, str], Cell] = {}
        for group in grouped(rows, *ARM_FIELDS, "metric").values():
            arm = arm_of(group[0])
            self.cells[arm, group[0]["metric"]] = _cell(arm, group)
        self.arms = sorted({arm for arm, _ in self.cells}, key=arm_order)
        self.metrics = sorted({metric for _, metric in self.cells})

    def estimate(self, arm: Arm, metric: str) -> Estimate:
        """Return the mean (or a set metric's value) with its interval."""
        cell = self.cells[arm, metric]
        if cell.group is not None:
            return jackknife(*cell.group, n=cell.n)
        pairs = sorted(cell.by_pair)
        values = [cell.by_pair[pair] for pair in pairs]
        clusters = [self.prompt_of[case_id] for case_id, _ in pairs]
        return clustered_mean(values, clusters, support=self._support(arm.plugin, metric))

    def _support(self, plugin: str, metric: str) -> tuple[float, float]:
        """Return the range of a metric over all images of a plugin, also those without it."""
        known = self._supports.get((plugin, metric))
        if known is None:
            cells = (
                c for (arm, m), c in self.cells.items() if m == metric and arm.plugin == plugin
            )
            values = [value for cell in cells for value in cell.by_pair.values()]
            known = (min(values, default=0.0), max(values, default=0.0))
            self._supports[plugin, metric] = known
        return known

    def difference(self, arm: Arm, other: Arm, metric: str) -> Estimate:
        """Return the mean of arm - other over common (case, seed) pairs, with its interval."""
        a, b = self.cells.get((arm, metric)), self.cells.get((other, metric))
        if a is None or b is None:
            return Estimate(None, None, None, 0, 0, "one side has no scores")
        if a.group is not None and b.group is not None:
            return paired_jackknife(a.group, b.group, n=min(a.n, b.n))
        return paired_difference(a.by_pair, b.by_pair, cluster_of=self.prompt_of)

    def p_value(self, arm: Arm, other: Arm, metric: str) -> float | None:
        """Return two-sided p of no difference; None for set metrics and few prompts."""
        a, b = self.cells.get((arm, metric)), self.cells.get((other, metric))
        if a is None or b is None or a.group is not None:
            return None
        pairs = sorted(a.by_pair.keys() & b.by_pair.keys())
        differences = [a.by_pair[pair] - b.by_pair[pair] for pair in pairs]
        return sign_flip_p(differences, [self.prompt_of[case_id] for case_id, _ in pairs])

    def base_of(self, arm: Arm) -> Arm | None:
        """Return the base arm of the same plugin and plugin scale, else that nearest to scale 1."""
        found = [a for a in self.arms if a.plugin == arm.plugin and a.method == "base"]
        scale = 1.0 if arm.plugin_scale is None else arm.plugin_scale
        exact = [a for a in found if a.plugin_scale == scale]
        near = sorted(found, key=lambda a: abs((a.plugin_scale or 1.0) - 1.0))
        return (exact or near or [None])[0]


def read_run_scores(run: RunStore | Path) -> Scores:
    """Read the scores of a run's planned trials."""
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    trials = records(store.trials())
    planned = {None, *(trial["trial_id"] for trial in trials)}
    rows = [row for row in read_scores(store) if row["trial_id"] in planned]
    prompts = {trial["case_id"]: trial["upgraded_prompt"] for trial in trials}
    return Scores(rows, prompts | content_prompts(store))


def summarise(run: RunStore | Path, scores: Scores | None = None) -> pd.DataFrame:
    """Write tables/summary.parquet from the scores and return it: columns of `schema.SUMMARY`."""
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    scores = scores or read_run_scores(store)
    costs = costs_of(store)
    rows = [
        _summary_row(scores, arm, metric, costs)
        for arm in scores.arms
        for metric in scores.metrics
        if (arm, metric) in scores.cells
    ]
    frame = pd.DataFrame(rows, columns=schema.SUMMARY.names)
    store.write_table("summary", frame)
    return frame


def arm_order(arm: Arm) -> tuple[Any, ...]:
    """Sort key of the reading order: each adapter of a method is a block of its own."""
    knobs = [-1.0 if k is None else k for k in (arm.t0, arm.plugin_scale, arm.adapter_scale)]
    method = (method_style(arm.method).order, arm.method, arm.adapter or "")
    return (arm.plugin, *method, *knobs)


def arm_of(row: Row) -> Arm:
    """Return the arm of a row of scores, of the summary or of the plan."""
    return Arm(**{"adapter": None, **{name: row[name] for name in ARM_FIELDS if name in row}})


def _cell(arm: Arm, rows: Sequence[Row]) -> Cell:
    first, scored = rows[0], [row for row in rows if row["value"] is not None]
    by_pair: dict[_PairKey, float] = {}
    group = None
    if first["level"] == "image":
        by_pair = {(row["case_id"], int(row["seed"])): row["value"] for row in scored}
    elif scored:
        group = (scored[0]["value"], left_out_of(scored[0]["leave_one_out"]))
    n = sum(int(row["n"]) for row in scored)
    return Cell(arm, first["metric"], first["recipe"], first["better"], by_pair, group, n)


def _summary_row(
    scores: Scores, arm: Arm, metric: str, costs: Mapping[Arm, Cost]
) -> dict[str, Any]:
    cell, estimate = scores.cells[arm, metric], scores.estimate(arm, metric)
    base = scores.base_of(arm)
    delta = Estimate(None, None, None, 0, 0, "this is the base")
    if base is not None and arm != base:
        delta = scores.difference(arm, base, metric)
    seconds, peak_memory_mib = cost_of(costs, arm)
    return {
        **{name: getattr(arm, name) for name in ARM_FIELDS},
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


def cost_of(costs: Mapping[Arm, Cost], arm: Arm) -> Cost:
    """Return an arm's cost; of images that are missing it is not known."""
    return costs.get(arm) or (None, None)


def costs_of(store: RunStore) -> dict[Arm, Cost]:
    """Return mean seconds and peak memory of each arm's finished images.

    Floor images are made once for all plugins with equal steps, guidance and sampler.
    """
    rows = records(store.trials().merge(store.results(), on="trial_id"))
    sharing: dict[str, dict[tuple[str, str], None]] = {}
    for row in rows:
        if row["plugin"]:
            sharing.setdefault(row["settings"] or "", {})[row["plugin"], row["kind"]] = None
    finished = [row for row in rows if row["status"] == "ok"]
    costs: dict[Arm, Cost] = {}
    for group in grouped(finished, *ARM_FIELDS, "settings").values():
        arm = arm_of(group[0])
        seconds = [row["seconds"] for row in group if row["seconds"] is not None]
        memory = [row["peak_memory_mib"] for row in group if row["peak_memory_mib"] is not None]
        cost = (fmean(seconds) if seconds else None, max(memory, default=None))
        if arm.plugin:
            costs[arm] = cost
            continue
        for plugin, kind in sharing.get(group[0]["settings"] or "", {}):
            costs.setdefault(replace(arm, plugin=plugin, kind=kind), cost)
    return costs
