"""tables/compatibility.parquet: does each plugin still work, and what do its images look like?

For each plugin, method and setting: the verdict, retention, distance of quality with its word, and
the number for sorting, all measured on all prompts. For each method of a plugin: the setting to
use. The columns are explained in `schema.COMPATIBILITY`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.analysis.measures import Parts, PluginMeasures
from bench.analysis.summary import ARM_FIELDS, Arm, Cost, Scores, cost_of, costs_of, read_run_scores
from bench.analysis.verdict_policy import load_thresholds
from bench.registry import REFERENCES
from bench.scoring import read_ceilings
from bench.store import Row, RunStore, schema
from metrics.stats import NO_EFFECT, Estimate
from metrics.stats.intervals import jackknife
from metrics.stats.recommend import Candidate, Recommendation, recommend
from metrics.stats.sort_value import MIN_PROMPTS_OF_INTERVAL, SortedSetting, SortValues
from metrics.stats.verdicts import (
    QualityVerdict,
    Thresholds,
    Verdict,
    Word,
    judge,
    judge_quality,
    shown_above,
)

Status = Literal["measured", "no effect", "not measured"]
COUNTS_STYLE = "without a native plugin, the distance counts the plugin's style as a loss"


def write_compatibility(
    run: RunStore | Path, scores: Scores | None = None, *, thresholds: Thresholds | None = None
) -> pd.DataFrame:
    """Write tables/compatibility.parquet from the scores and return it.

    `thresholds` None: the shipped ones.
    """
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    scores = scores or read_run_scores(store)
    thresholds = thresholds or load_thresholds()
    costs, ceilings = costs_of(store), _ceilings(store)
    rows: list[Row] = []
    for plugin in dict.fromkeys(arm.plugin for arm in scores.arms):
        measures = PluginMeasures(scores, plugin, ceilings.get(plugin))
        rows += plugin_rows(measures, costs, thresholds)
    frame = pd.DataFrame(rows).reindex(columns=schema.COMPATIBILITY.names)
    store.write_table("compatibility", frame)
    return frame


def plugin_rows(
    measures: PluginMeasures, costs: Mapping[Arm, Cost], thresholds: Thresholds
) -> list[Row]:
    """Return the rows of one plugin: its settings, then its methods."""
    judged = _Judged(measures, costs, thresholds)
    settings = {arm: judged.row(arm) for arm in measures.arms}
    lines = dict.fromkeys((a.method, a.adapter) for a in measures.arms)
    methods = [
        judged.method_row(method, adapter, settings)
        for method, adapter in lines
        if not _is_reference(method)
    ]
    return [*settings.values(), *methods]


class _Judged:
    """The verdicts of one plugin's settings: one family of tests."""

    def __init__(
        self, measures: PluginMeasures, costs: Mapping[Arm, Cost], thresholds: Thresholds
    ) -> None:
        self.measures, self.costs, self.thresholds = measures, costs, thresholds
        self.arms = [arm for arm in measures.arms if not _is_reference(arm.method)]
        self.retentions = {arm: measures.retention(arm) for arm in measures.arms}
        self.verdicts = self._verdicts()
        self.words = self._words()
        self.sorted_arms: list[Arm] = []  # those that have an S, in the order of `sorted`
        self.sorted, self.sort_problem = self._sorted()
        self.by_function = self._by_function()
        self.choice = self._recommendation(self.sorted_arms)

    def row(self, arm: Arm) -> Row:
        """Return the row of one setting, base, floor and oracle among them."""
        m, retention = self.measures, self.retentions[arm]
        function, quality = m.function(arm), m.quality(arm)
        verdict, word = self.verdicts.get(arm), self.words.get(arm)
        row: Row = {
            "level": "setting",
            **{name: getattr(arm, name) for name in ARM_FIELDS},
            "status": _status(retention),
            "reason": None if retention.value is not None else retention.reason,
            "function_metric": m.metric,
            "function_better": m.better,
            **_estimate("function", function),
            **_estimate("retention", retention),
            **_estimate("quality", quality),
            "quality_metric": m.axis[0] if m.axis else None,
            "quality_reference": m.axis[1].reference if m.axis else None,
            "quality_reason": self._quality_reason(arm, quality),
            **_estimate("place", m.place(arm)),
            **_verdict(verdict),
            **_word(word),
            **self._sort_cells(arm),
            "among_best": arm in self.choice.equal if verdict else None,
            "recommended": arm == self.choice.arm,
            "choice_reason": self.choice.reason,
            "n": function.n,
            "n_prompts": function.n_clusters,
            **_cost(self.costs, arm),
            "recipe": self._recipe(),
        }
        for ceiling in ("oracle", "source"):
            row |= _estimate(f"normalized_{ceiling}", m.normalized(arm, ceiling))
        return row

    def _quality_reason(self, arm: Arm, quality: Estimate) -> str | None:
        if quality.value is None:
            return quality.reason
        if self.measures.counts_style:
            return COUNTS_STYLE
        word = self.words.get(arm)
        return None if word is None else word.reason

    def method_row(self, method: str, adapter: str | None, settings: Mapping[Arm, Row]) -> Row:
        """Return the row of the setting of a method to use, with the method's cross-fitted S.

        Of several adapters each has a row.
        """
        arms = [arm for arm in self.arms if (arm.method, arm.adapter) == (method, adapter)]
        found = self._recommendation(arms)
        if found.arm is None:
            kept = {k: v for k, v in settings[arms[0]].items() if k in _WITHOUT_CHOICE}
            none = Arm(arms[0].plugin, arms[0].kind, method, None, None, None, adapter)
            named = {name: getattr(none, name) for name in ARM_FIELDS}
            return {
                **kept,
                **named,
                "level": "method",
                "recommended": False,
                "choice_reason": found.reason,
                **self._method_sort(arms),
                **self._method_kept(arms),
            }
        row = {**settings[found.arm], "level": "method"}
        row |= {**self._method_sort(arms), **self._method_kept(arms)}
        return {**row, "recommended": self.choice.arm == found.arm, "choice_reason": None}

    def _method_sort(self, arms: Sequence[Arm]) -> Row:
        places = [self.sorted_arms.index(arm) for arm in arms if arm in self.sorted_arms]
        if self.sorted is None or not places:
            return {**_estimate("sort_value", _NOTHING), "sort_reason": self.sort_problem}
        parts = self.sorted.cross_fitted(places)
        values = np.array(list(parts.values()))
        value = min(max(float(values.mean()), 0.0), 1.0)
        found = Estimate(value, None, None, len(values), len(values))
        if len(values) >= MIN_PROMPTS_OF_INTERVAL:
            # the pseudo-values' mean, as a jackknife sees it
            n, mean = len(values), float(values.mean())
            without = {name: (n * mean - v) / (n - 1) for name, v in parts.items()}
            found = jackknife(mean, without, n=n)
        return {**_estimate("sort_value", found), "sort_reason": None}

    def _method_kept(self, arms: Sequence[Arm]) -> Row:
        """Return the mean clipped retention over a method's t0, with the jackknife's interval."""
        grid = [arm for arm in _one_a_t0(arms) if arm in self.sorted_arms]
        if self.by_function is None or not grid:
            return {**_estimate("kept", _NOTHING), "kept_t0s": None}
        places = [self.sorted_arms.index(arm) for arm in grid]
        columns = [self.by_function.by_prompt(place) for place in places]
        value = float(np.mean([self.by_function.values[place] for place in places]))
        n = len(self.by_function.names)
        without = {
            prompt: (n * value - float(np.mean([c[prompt] for c in columns]))) / (n - 1)
            for prompt in self.by_function.names
            if n > 1
        }
        t0s = ", ".join(f"{arm.t0:g}" for arm in grid if arm.t0 is not None)
        found = jackknife(value, without, n=n)
        if found.low is not None and found.high is not None:  # it is within 0..1
            found = replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))
        return {**_estimate("kept", found), "kept_t0s": t0s}

    def _sort_cells(self, arm: Arm) -> Row:
        if self.sorted is None or arm not in self.sorted_arms:
            reason = self.sort_problem if arm in self.arms else None
            return {**_estimate("sort_value", _NOTHING), "sort_reason": reason}
        value = self.sorted.values[self.sorted_arms.index(arm)]
        return {"sort_value": value, "sort_reason": None}

    def _verdicts(self) -> dict[Arm, Verdict]:
        contrasts = {arm: self.measures.contrast(arm) for arm in self.arms}
        known = {arm: c for arm, c in contrasts.items() if not isinstance(c, str)}
        found = dict(zip(known, judge(list(known.values()), self.thresholds), strict=True))
        without_effect = {a for a in known if self.retentions[a].reason == NO_EFFECT}
        for arm, problem in contrasts.items():
            if isinstance(problem, str):
                found[arm] = Verdict("open", 0, reason=problem)
            elif arm in without_effect:  # nothing was there that could be kept or lost
                found[arm] = Verdict("open", found[arm].n_prompts, reason=NO_EFFECT)
        return found

    def _words(self) -> dict[Arm, QualityVerdict]:
        pairs = {}
        for arm in self.arms:
            parts = self.measures.parts(arm)
            if isinstance(parts, str) or self.measures.counts_style:
                continue
            if parts.quality and parts.base_quality:
                pairs[arm] = (parts.quality.sums, parts.base_quality.sums)
        return dict(zip(pairs, judge_quality(list(pairs.values()), self.thresholds), strict=True))

    def _sorted(self) -> tuple[SortValues | None, str | None]:
        """Return S of all settings that have one, or why none has."""
        problem: str | None = "the run has no method that keeps the plugin"
        found: dict[Arm, SortedSetting] = {}
        for arm in self.arms:
            parts, retention = self.measures.parts(arm), self.retentions[arm]
            if isinstance(parts, str):
                problem = parts
            elif retention.value is None:
                problem = retention.reason
            else:
                found[arm] = self._setting(parts)
        if not found:
            return None, problem
        self.sorted_arms = list(found)
        try:
            return SortValues(list(found.values())), None
        except ValueError as error:
            self.sorted_arms = []
            return None, str(error)

    def _by_function(self) -> SortValues | None:
        """Return the clipped retention of all settings that have an S."""
        found = [
            self._setting(p)
            for a in self.sorted_arms
            if not isinstance(p := self.measures.parts(a), str)
        ]
        return SortValues([replace(s, quality=None, scale=None) for s in found]) if found else None

    def _setting(self, parts: Parts) -> SortedSetting:
        axis, better = self.measures.axis, self.measures.better or "higher"
        is_known = axis is not None and parts.quality is not None
        if not is_known or self.measures.counts_style:
            return SortedSetting(parts.function, parts.base, parts.floor, better)
        k = axis[1].scale if axis else None
        return SortedSetting(parts.function, parts.base, parts.floor, better, parts.quality, k)

    def _recommendation(self, arms: Sequence[Arm]) -> Chosen:
        """Return the setting to use among some."""
        usable = [arm for arm in arms if arm in self.sorted_arms]
        if self.sorted is None or not usable:
            return Chosen(None, (), self.sort_problem)
        shown = dict(zip(self.arms, self._shown(), strict=True))
        candidates = []
        for arm in usable:
            seconds, _ = cost_of(self.costs, arm)
            place = self.sorted_arms.index(arm)
            cost = float("inf") if seconds is None else seconds
            rank = _PREFERENCE[self.verdicts[arm].word]
            candidates.append(
                Candidate(str(place), self.sorted.by_prompt(place), cost, shown[arm], rank)
            )
        found: Recommendation = recommend(candidates, level=self.thresholds.level)
        if found.name is None:
            return Chosen(None, (), found.reason)
        equal = tuple(self.sorted_arms[int(name)] for name in found.equal)
        return Chosen(self.sorted_arms[int(found.name)], equal, None)

    def _shown(self) -> list[bool]:
        """Return whether each setting is shown to keep any of the plugin's effect."""
        contrasts = [self.measures.contrast(arm) for arm in self.arms]
        found = []
        known = [c for c in contrasts if not isinstance(c, str)]
        for contrast in known:
            found += [{n: contrast.arm[n] - contrast.floor[n] for n in contrast.arm}]
        zeros = dict.fromkeys({n for one in found for n in one}, 0.0)
        tested = iter(shown_above(found, zeros, level=self.thresholds.level))
        return [not isinstance(c, str) and next(tested) for c in contrasts]

    def _recipe(self) -> str:
        m, t = self.measures, self.thresholds
        quality = "none" if m.axis is None else f"{m.axis[0]}, k {m.axis[1].scale:g}"
        return (
            f"function: {m.metric or 'none'} between floor and base; works > {t.works:g}, lost < "
            f"{t.lost:g}, one-sided {t.level:.0%}, Holm over the plugin's settings; quality: "
            f"{quality}; like new < {t.like_new:g}, like old > {t.like_old:g} of base; intervals "
            "95 %, whole prompts"
        )


@dataclass(frozen=True)
class Chosen:
    """The setting to use, and those that are not told from the best; or why there is none."""

    arm: Arm | None
    equal: tuple[Arm, ...]
    reason: str | None


_PREFERENCE: Mapping[Word, int] = {"works": 0, "degraded": 1, "open": 1, "lost": 2}
_NOTHING = Estimate(None, None, None, 0, 0)
_WITHOUT_CHOICE = (
    *("status", "reason", "function_metric", "function_better", "quality_metric"),
    *("quality_reference", "recipe", "n", "n_prompts"),
)


def _one_a_t0(arms: Sequence[Arm]) -> list[Arm]:
    """Return one arm for each t0: scales nearest to 1, the smaller of equal ones."""
    found: dict[float | None, Arm] = {}
    for arm in arms:
        if arm.t0 not in found or _off_scale(arm) < _off_scale(found[arm.t0]):
            found[arm.t0] = arm
    return list(found.values())


def _off_scale(arm: Arm) -> float:
    return sum(abs((1.0 if s is None else s) - 1) for s in (arm.plugin_scale, arm.adapter_scale))


def _is_reference(method: str) -> bool:
    return method in REFERENCES


def _verdict(found: Verdict | None) -> Row:
    if found is None:
        return {}
    return {
        "verdict": found.word,
        "verdict_p": found.p,
        "verdict_more_prompts": found.n_more,
        "verdict_reason": found.reason,
    }


def _word(found: QualityVerdict | None) -> Row:
    if found is None:
        return {}
    return {"quality_word": found.word, "quality_more_prompts": found.n_more}


def _status(retention: Estimate) -> Status:
    if retention.value is not None:
        return "measured"
    return "no effect" if retention.reason == NO_EFFECT else "not measured"


def _estimate(name: str, found: Estimate) -> dict[str, Any]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _cost(costs: Mapping[Arm, Cost], arm: Arm) -> dict[str, Any]:
    seconds, peak_memory_mib = cost_of(costs, arm)
    return {"seconds": seconds, "peak_memory_mib": peak_memory_mib}


def _ceilings(store: RunStore) -> dict[str, dict[str, dict[str, float]]]:
    """Return plugin -> metric -> case id -> the source picture's score."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in read_ceilings(store):
        if row["value"] is not None:
            by_metric = found.setdefault(row["plugin"], {}).setdefault(row["metric"], {})
            by_metric[row["case_id"]] = row["value"]
    return found
