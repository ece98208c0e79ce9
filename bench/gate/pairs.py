"""Pair the scores of two runs: a sample for each plugin and metric.

A pair is one case and seed under the same settings in both runs; a prompt's value is the mean
difference of its pairs over seeds and settings (t0, scales).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.errors import UserError
from bench.gate.baseline import shown_run
from bench.gate.decision import Sample
from bench.gate.policy import GateMetric, Policy
from bench.scoring import content_prompts, read_scores
from bench.store import Row, RunStore, grouped, records
from bench.store.documents import left_out_of
from metrics.stats.margin import step_of
from metrics.stats.quantity import pseudo_values

KNOBS = ("method", "t0", "plugin_scale", "adapter_scale", "adapter")  # earlier runs lack the last
_Knobs = tuple[Any, ...]
Pair = tuple[_Knobs, str, int]  # knobs, case id, seed


@dataclass(frozen=True)
class Side:
    """The compared trials of one run with their results and scores; `run` is for messages."""

    name: str
    run: str
    trials: Mapping[str, Mapping[Pair, Row]]  # plugin -> pair -> trial with its result
    scores: Mapping[tuple[str, str], Sequence[Row]]  # (plugin, metric) -> rows
    prompt_of: Mapping[str, str]


def read_side(name: str, store: RunStore, policy: Policy) -> Side:
    """Read the part of a run that a policy compares."""
    rows = [
        row
        for row in records(store.trials().merge(store.results(), on="trial_id", how="left"))
        if _is_compared(row, policy)
    ]
    trials: dict[str, dict[Pair, Row]] = {}
    for row in rows:
        trials.setdefault(row["plugin"], {})[_pair(row)] = row
    planned = {None, *(row["trial_id"] for row in rows)}
    scored = [
        row
        for row in read_scores(store)
        if row["trial_id"] in planned and _is_compared(row, policy) and row["plugin"] in trials
    ]
    by_metric = grouped(scored, "plugin", "metric")
    return Side(name, shown_run(store), trials, by_metric, content_prompts(store))


def make_samples(baseline: Side, candidate: Side, policy: Policy) -> list[Sample]:
    """Return a sample for each test; raise `UserError` if recipes differ or nothing is tested."""
    problems, samples = _recipe_problems(baseline, candidate, policy), []
    if not problems:
        for spec in policy.metrics:
            found = [
                _sample(baseline, candidate, policy, spec=spec, plugin=plugin)
                for plugin in baseline.trials
                if is_tested(baseline, plugin, spec)
            ]
            if spec.required and not found:
                problems.append(
                    f"the policy requires {spec.name!r}, but {baseline.run} has no "
                    f"scores of it: run xbench score RUN --metrics {spec.name}, or set "
                    "required: false"
                )
            samples += found
    if problems:
        raise UserError.collect(problems)
    if not samples:
        raise UserError(
            f"nothing to test: {baseline.run} has no scores of "
            f"{', '.join(policy.methods)} under a metric of the policy; name metrics with --policy"
        )
    return samples


def looks_of(n_cases: int, policy: Policy) -> list[int]:
    """Return the numbers of cases at the gate's looks."""
    return sorted({min(n_cases, math.ceil(share * n_cases)) for share in policy.looks})


def n_cases_of(side: Side) -> int:
    """Return the largest number of cases of a plugin."""
    return max((len(cases_of(trials)) for trials in side.trials.values()), default=0)


def _is_compared(row: Row, policy: Policy) -> bool:
    return (
        row["method"] in policy.methods
        and (policy.plugins is None or row["plugin"] in policy.plugins)
        and (policy.t0 is None or row["t0"] is None or row["t0"] in policy.t0)
    )


def is_tested(baseline: Side, plugin: str, spec: GateMetric) -> bool:
    """Return whether a policy's metric makes a test of a plugin: the baseline has scores."""
    if spec.plugins is not None and plugin not in spec.plugins:
        return False
    return any(row["value"] is not None for row in baseline.scores.get((plugin, spec.name), ()))


def _pair(row: Row) -> Pair:
    return tuple(row.get(knob) for knob in KNOBS), row["case_id"], int(row["seed"])


def cases_of(trials: Mapping[Pair, Row]) -> list[str]:
    """Return case ids in the order in which a limited run takes them."""
    return list(dict.fromkeys(case_id for _, case_id, _ in trials))


def _recipe_problems(baseline: Side, candidate: Side, policy: Policy) -> list[str]:
    problems = []
    for spec in policy.metrics:
        recipes = [
            {
                row["recipe"]
                for key, rows in side.scores.items()
                if key[1] == spec.name
                for row in rows
            }
            for side in (baseline, candidate)
        ]
        if all(recipes) and recipes[0] != recipes[1]:
            texts = [" | ".join(sorted(recipe)) for recipe in recipes]
            problems.append(
                f"metrics.{spec.name}.recipe: baseline {texts[0]!r}, candidate {texts[1]!r}: score "
                "both runs again with this version (xbench score RUN)"
            )
    return problems


def _sample(
    baseline: Side, candidate: Side, policy: Policy, *, spec: GateMetric, plugin: str
) -> Sample:
    planned, rendered = baseline.trials[plugin], candidate.trials.get(plugin, {})
    order = {case_id: place for place, case_id in enumerate(cases_of(planned))}
    held = order.keys() - {pair[1] for pair in planned if pair not in rendered}
    sizes = looks_of(n_cases_of(baseline), policy)
    sizes = sorted({min(size, len(order)) for size in sizes})
    covered = [size for size in sizes if all(c in held for c, i in order.items() if i < size)]
    compared = [pair for pair in planned if order[pair[1]] < max(covered, default=0)]
    gaps = _failed(baseline, candidate, plugin, compared)
    rows = [side.scores.get((plugin, spec.name), ()) for side in (baseline, candidate)]
    level = rows[0][0]["level"]
    if level == "image":
        values = [{_pair(row): row["value"] for row in part} for part in rows]
        gaps += _unscored(values, compared)
        by_pair = {
            pair: values[1][pair] - values[0][pair]
            for pair in compared
            if values[0].get(pair) is not None and values[1].get(pair) is not None
        }
        scored = [v for part in values for pair in by_pair if (v := part[pair]) is not None]
        step = step_of(np.array(scored)) if scored else 0.0
        by_case = [(case_id, d) for (_, case_id, _), d in by_pair.items()]
    else:
        step, (by_case, problems) = 0.0, _of_sets(rows, baseline.prompt_of, order)
        gaps += problems
    sign = 1.0 if rows[0][0]["better"] == "higher" else -1.0
    looks = tuple(
        sign * _by_prompt([(c, d) for c, d in by_case if order[c] < size], baseline.prompt_of)
        for size in covered
    )
    n_prompts = len({baseline.prompt_of[c] for c in order if order[c] < max(covered, default=0)})
    n_per_prompt = len(compared) / n_prompts if n_prompts else len(planned) / len(order)
    return Sample(
        plugin=plugin,
        metric=spec.name,
        better=rows[0][0]["better"],
        margin=spec.margin,
        looks=looks,
        shares=tuple(size / len(order) for size in sizes),
        n_per_prompt=n_per_prompt,
        step=step,
        spread=spec.spread or 0.0,
        collapse=spec.collapse_of(level, step=step, n_per_prompt=n_per_prompt),
        is_identical=bool(compared) and _are_identical(planned, rendered),
        missing="; ".join(gaps) or None,
    )


def image_differences(
    baseline: Side, candidate: Side, plugin: str, metric: str
) -> Iterator[tuple[Pair, tuple[float, float], float]]:
    """Yield pairs of images with both scores; 1 where higher is better, else -1."""
    rows = [side.scores.get((plugin, metric), ()) for side in (baseline, candidate)]
    if not all(rows) or rows[0][0]["level"] != "image":
        return
    sign = 1.0 if rows[0][0]["better"] == "higher" else -1.0
    new = {_pair(row): row["value"] for row in rows[1]}
    for row in rows[0]:
        value, other = row["value"], new.get(_pair(row))
        if value is not None and other is not None:
            yield _pair(row), (value, other), sign


def _are_identical(planned: Mapping[Pair, Row], rendered: Mapping[Pair, Row]) -> bool:
    """Return whether all images of the candidate, beyond the looks too, are the baseline's."""
    return all(
        row["status"] == planned[pair]["status"] == "ok"
        and row["image_sha256"]
        and row["image_sha256"] == planned[pair]["image_sha256"]
        for pair, row in rendered.items()
        if pair in planned
    )


def _failed(baseline: Side, candidate: Side, plugin: str, compared: Sequence[Pair]) -> list[str]:
    """List what was not rendered among the compared images."""
    problems = []
    for side in (baseline, candidate):
        trials = side.trials[plugin] if compared else {}
        rows = [trials[pair] for pair in compared if trials[pair]["status"] != "ok"]
        if rows:
            (why, _), *_ = Counter(
                row["error"] or row["status"] or "not rendered yet" for row in rows
            ).most_common(1)
            problems.append(
                f"{len(rows)} of {len(compared)} compared images of the {side.name} are missing "
                f"({why})"
            )
    return problems


def _unscored(values: Sequence[Mapping[Pair, float | None]], compared: Sequence[Pair]) -> list[str]:
    """List pairs with a score on one side alone; pairs without any do not matter."""
    problems = []
    for name, own, other in (("baseline", *values), ("candidate", *values[::-1])):
        n = sum(own.get(pair) is None and other.get(pair) is not None for pair in compared)
        if n:
            problems.append(f"{n} of {len(compared)} compared images of the {name} have no score")
    return problems


def _of_sets(
    rows: Sequence[Sequence[Row]], prompt_of: Mapping[str, str], order: Mapping[str, int]
) -> tuple[list[tuple[str, float]], list[str]]:
    """Return differences of set scores as jackknife pseudo-values at the prompts' first cases.

    Over several settings, each prompt has the mean of their differences.
    """
    first_case: dict[str, str] = {}
    for case_id in order:
        first_case.setdefault(prompt_of[case_id], case_id)
    sides = [{tuple(row.get(knob) for knob in KNOBS): row for row in part} for part in rows]
    sums: dict[str, list[float]] = {}
    for knobs, left in sides[0].items():
        right = sides[1].get(knobs)
        pseudo = [parts_of_set(row) for row in (left, right)]
        if pseudo[0] is None or pseudo[1] is None:
            which = "baseline" if pseudo[0] is None else "candidate"
            return [], [f"the {which}'s set of images has no score with its prompts left out"]
        if pseudo[0].keys() != pseudo[1].keys():
            return [], ["the two sets have different prompts"]
        for prompt, value in pseudo[0].items():
            sums.setdefault(prompt, []).append(pseudo[1][prompt] - value)
    return [(first_case[p], float(np.mean(d))) for p, d in sums.items() if p in first_case], []


def parts_of_set(row: Row | None) -> dict[str, float] | None:
    """Return each prompt's part in a set score; None without its leave-one-out values."""
    if row is None or row["value"] is None or not row["leave_one_out"]:
        return None
    return pseudo_values(row["value"], left_out_of(row["leave_one_out"]))


def _by_prompt(by_case: Sequence[tuple[str, float]], prompt_of: Mapping[str, str]) -> np.ndarray:
    """Return the mean of each prompt's values [n_prompts], in order of appearance."""
    groups: dict[str, list[float]] = {}
    for case_id, value in by_case:
        groups.setdefault(prompt_of[case_id], []).append(value)
    return np.array([float(np.mean(group)) for group in groups.values()])
