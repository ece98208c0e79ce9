"""What a gate with a baseline can decide, before any candidate is rendered."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.gate.baseline import shown_run
from bench.gate.pairs import Side, cases_of, is_tested, read_side
from bench.gate.policy import GateMetric, Policy
from bench.store import RunStore
from metrics.stats import holm
from metrics.stats.margin import floor_of, prompts_to_decide, step_of, within_margin_p


@dataclass(frozen=True)
class TestOutlook:
    """What one test can decide with the baseline's prompts.

    `spread` is the least standard deviation of a prompt's difference, None if nothing is known of
    it. A candidate without any difference passes if `can_pass`; `needed_prompts` let it pass,
    where the spread is known with the policy's power.
    """

    __test__ = False  # not a test of pytest's

    plugin: str
    metric: str
    margin: float
    spread: float | None
    n_prompts: int
    min_prompts: int
    can_pass: bool
    needed_prompts: int


def gate_outlook(baseline_dir: Path, policy: Policy, *, limit: int | None = None) -> dict[str, Any]:
    """Return which tests of a policy can pass with a baseline, or with its first `limit` cases."""
    store = RunStore.open(baseline_dir)
    side = read_side("baseline", store, policy)
    found = [
        (spec, plugin)
        for spec in policy.metrics
        for plugin in side.trials
        if is_tested(side, plugin, spec)
    ]
    steps = [_step(side, spec, plugin) for spec, plugin in found]
    sizes = [_n_prompts(side, plugin, limit) for _, plugin in found]
    best = [
        _best_p(spec, step, n) if n >= policy.min_prompts else 1.0
        for (spec, _), step, n in zip(found, steps, sizes, strict=True)
    ]
    tests = [
        _outlook(spec, plugin, policy, step=step, n_prompts=n, p=p, n_tests=len(found))
        for (spec, plugin), step, n, p in zip(found, steps, sizes, holm(best), strict=True)
    ]
    return {
        "baseline": shown_run(store),
        "can_pass": bool(tests) and all(test.can_pass for test in tests),
        "needed_prompts": max((test.needed_prompts for test in tests), default=None),
        "min_prompts_regression": policy.min_prompts_regression,
        "tests": [asdict(test) for test in tests],
    }


def _outlook(
    spec: GateMetric,
    plugin: str,
    policy: Policy,
    *,
    step: float,
    n_prompts: int,
    p: float,
    n_tests: int,
) -> TestOutlook:
    spread = floor_of(spec.margin, step=step, spread=spec.spread or 0.0) ** 0.5 or None
    needed = policy.min_prompts
    if spread is not None:
        level = policy.alpha / n_tests
        n = prompts_to_decide(spread, effect=spec.margin, alpha=level, power=policy.power)
        needed = max(needed, n)
    return TestOutlook(
        plugin=plugin,
        metric=spec.name,
        margin=spec.margin,
        spread=spread,
        n_prompts=n_prompts,
        min_prompts=policy.min_prompts,
        can_pass=p <= policy.alpha,
        needed_prompts=needed,
    )


def _best_p(spec: GateMetric, step: float, n: int) -> float:
    """Return the p that a loss is within the margin if no prompt differs at all."""
    p = within_margin_p(np.zeros(n), spec.margin, step=step, spread=spec.spread or 0.0)
    return 1.0 if p is None else p


def _step(side: Side, spec: GateMetric, plugin: str) -> float:
    rows = side.scores[plugin, spec.name]
    if rows[0]["level"] != "image":
        return 0.0
    return step_of(np.array([row["value"] for row in rows if row["value"] is not None]))


def _n_prompts(side: Side, plugin: str, limit: int | None) -> int:
    return len({side.prompt_of[case_id] for case_id in cases_of(side.trials[plugin])[:limit]})
