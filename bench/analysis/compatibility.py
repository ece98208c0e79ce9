"""tables/compatibility.parquet: does each plugin still work, and how good are its images?

For each plugin, method and setting: retention, quality gain, normalized function. For each method
of a plugin: its score, and the setting to use, chosen on one half of the prompts and measured on
the other. The columns are explained in `schema.COMPATIBILITY`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from bench.analysis.measures import PluginMeasures
from bench.analysis.summary import ARM_FIELDS, Arm, Cost, Scores, cost_of, costs_of, read_run_scores
from bench.scoring import read_ceilings
from bench.store import Row, RunStore, schema
from metrics.stats import MIN_CLUSTERS, NO_EFFECT, Estimate

Status = Literal["measured", "no effect", "not measured"]
REFERENCE_METHODS = ("base", "floor")
_CHOICE = "recommended on half of the prompts (by sha256): largest retention x gain, clipped to 1"


@dataclass(frozen=True)
class Choice:
    """The recommended setting of one method, and its merit on the prompts it was chosen on."""

    arm: Arm | None
    merit: tuple[float, float]
    reason: str | None = None


def write_compatibility(run: RunStore | Path, scores: Scores | None = None) -> pd.DataFrame:
    """Write tables/compatibility.parquet from the scores and return it."""
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    scores = scores or read_run_scores(store)
    costs, ceilings = costs_of(store), _ceilings(store)
    rows: list[Row] = []
    for plugin in dict.fromkeys(arm.plugin for arm in scores.arms):
        measures = PluginMeasures(scores, plugin, ceilings.get(plugin))
        rows += _plugin_rows(measures, costs)
    frame = pd.DataFrame(rows, columns=schema.COMPATIBILITY.names)
    store.write_table("compatibility", frame)
    return frame


def halves(prompts: Collection[str]) -> tuple[list[str], list[str]]:
    """Split prompts into those to choose on and those to measure on: every second one by sha256."""
    ordered = sorted(prompts, key=lambda prompt: hashlib.sha256(prompt.encode()).hexdigest())
    return ordered[1::2], ordered[::2]


def _plugin_rows(measures: PluginMeasures, costs: Mapping[Arm, Cost]) -> list[Row]:
    rows = [_setting_row(measures, arm, costs) for arm in measures.arms]
    choosing, measuring = halves(measures.prompts())
    methods = dict.fromkeys(arm.method for arm in measures.arms)
    choices = {
        method: _choose(measures, [a for a in measures.arms if a.method == method], choosing)
        for method in methods
        if method not in REFERENCE_METHODS
    }
    # the native plugin is the reference of the others, not a way to keep the old one
    usable = [m for m, choice in choices.items() if choice.arm and m != "oracle"]
    best = max(usable, key=lambda m: choices[m].merit, default=None)
    for method, choice in choices.items():
        row = _method_row(measures, method, choice, costs, prompts=measuring)
        rows.append({**row, "recommended": method == best})
    return rows


def _setting_row(measures: PluginMeasures, arm: Arm, costs: Mapping[Arm, Cost]) -> Row:
    return {
        "level": "setting",
        **{name: getattr(arm, name) for name in ARM_FIELDS},
        **_measured(measures, arm, prompts=None),
        **_cost(costs, arm),
        "recipe": _recipe(measures),
    }


def _method_row(
    measures: PluginMeasures,
    method: str,
    choice: Choice,
    costs: Mapping[Arm, Cost],
    *,
    prompts: Collection[str],
) -> Row:
    arms = [arm for arm in measures.arms if arm.method == method]
    grid = t0_grid(arms)
    score = measures.compatibility(grid)
    arm = choice.arm or Arm(arms[0].plugin, arms[0].kind, method, None, None, None)
    measured = _measured(measures, choice.arm or arms[0], prompts=prompts)
    if choice.arm is None:
        kept = ("status", "reason", "function_metric", "function_better")
        measured = {name: measured[name] for name in kept}
        measured["gain_reason"] = choice.reason
    return {
        "level": "method",
        **{name: getattr(arm, name) for name in ARM_FIELDS},
        **measured,
        **_estimate("score", score.score),
        "score_split_half": score.split_half,
        "score_reason": score.score.reason,
        **(_cost(costs, choice.arm) if choice.arm else {}),
        "recipe": f"{_recipe(measures)}; {_grid_words(grid)}; {_CHOICE}",
    }


def t0_grid(arms: Sequence[Arm]) -> list[Arm]:
    """Return one arm for each t0 of a method: scales nearest to 1, the smaller of equal ones."""
    found: dict[float | None, Arm] = {}
    for arm in arms:
        if arm.t0 not in found or _off_scale(arm) < _off_scale(found[arm.t0]):
            found[arm.t0] = arm
    return list(found.values())


def _off_scale(arm: Arm) -> float:
    return sum(
        abs((s if s is not None else 1.0) - 1) for s in (arm.plugin_scale, arm.adapter_scale)
    )


def _choose(measures: PluginMeasures, arms: Sequence[Arm], prompts: Collection[str]) -> Choice:
    """Choose the setting with the largest retention x gain on some prompts."""
    worst = (-math.inf, -math.inf)
    if len(prompts) < MIN_CLUSTERS:
        few = f"{2 * len(prompts)} prompts are too few to choose a t0 on one half and measure on "
        return Choice(None, worst, f"{few}the other (at least {2 * MIN_CLUSTERS})")
    score = measures.compatibility(t0_grid(arms)).score
    if score.value is None:
        return Choice(None, worst, score.reason)
    merits: dict[Arm, tuple[float, float]] = {}
    for arm in arms:  # one at a time: each has the base of its own scale
        for kept, gained in measures.at_prompts([arm], prompts):
            merits[arm] = _merit(kept, gained)
    if not merits or max(merits.values()) == worst:
        return Choice(None, worst, "no effect or no room on the half that t0 is chosen on")
    best = max(merits, key=lambda arm: merits[arm])
    return Choice(best, merits[best])


def _merit(kept: float, gained: float) -> tuple[float, float]:
    """Return the product, then (for ties at 0) the sum, of retention and gain, clipped to 1."""
    if not (math.isfinite(kept) and math.isfinite(gained)):
        return (-math.inf, -math.inf)
    kept, gained = min(kept, 1.0), min(gained, 1.0)
    return max(kept, 0.0) * max(gained, 0.0), kept + gained


def _measured(measures: PluginMeasures, arm: Arm, *, prompts: Collection[str] | None) -> Row:
    function, retention = measures.function(arm, prompts), measures.retention(arm, prompts)
    gains = {
        name: measures.gain(arm, measures.scales.get(name), prompts)
        for name in ("upgraded", "oracle")
    }
    scale = measures.headline_scale
    gain = measures.gain(arm, None) if scale is None else gains[scale.reference]
    row: Row = {
        "status": _status(retention),
        "reason": retention.reason,
        "function_metric": measures.metric,
        "function_better": measures.better,
        **_estimate("function", function),
        **_estimate("retention", retention),
        **_estimate("gain", gain),
        "gain_reference": scale.reference if scale else None,
        "gain_metric": scale.metric if scale else None,
        "gain_reason": gain.reason if gain.value is None else None,
        "n": function.n,
        "n_prompts": function.n_clusters,
    }
    for name, found in gains.items():
        row |= _estimate(f"gain_{name}", found)
    for ceiling in ("oracle", "source"):
        row |= _estimate(f"normalized_{ceiling}", measures.normalized(arm, ceiling, prompts))
    return row


def _status(retention: Estimate) -> Status:
    if retention.value is not None:
        return "measured"
    return "no effect" if retention.reason == NO_EFFECT else "not measured"


def _estimate(name: str, found: Estimate) -> dict[str, Any]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _cost(costs: Mapping[Arm, Cost], arm: Arm) -> dict[str, Any]:
    seconds, peak_memory_mib = cost_of(costs, arm)
    return {"seconds": seconds, "peak_memory_mib": peak_memory_mib}


def _recipe(measures: PluginMeasures) -> str:
    scale = measures.headline_scale
    function = measures.metric or "none"
    target = {"oracle": "native plugin", "upgraded": "upgraded model without plugin"}
    gain = f"{scale.metric} between base and {target[scale.reference]}" if scale else "none"
    return f"function: {function} between floor and base; gain: {gain}; 95 %, whole prompts jointly"


def _grid_words(grid: Sequence[Arm]) -> str:
    t0s = ", ".join(f"{arm.t0:g}" for arm in grid if arm.t0 is not None) or "none"
    scales = sorted({(a.plugin_scale or 1.0, a.adapter_scale or 1.0) for a in grid})
    pairs = ", ".join(f"{p:g} and {a:g}" for p, a in scales)
    return f"score: area dominated over t0 {t0s} at plugin and adapter scale {pairs}"


def _ceilings(store: RunStore) -> dict[str, dict[str, dict[str, float]]]:
    """Return plugin -> metric -> case id -> the source picture's score."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in read_ceilings(store):
        if row["value"] is not None:
            by_metric = found.setdefault(row["plugin"], {}).setdefault(row["metric"], {})
            by_metric[row["case_id"]] = row["value"]
    return found
