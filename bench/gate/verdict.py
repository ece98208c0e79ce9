"""Describe a decided gate: each test with its difference, numbers and sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.gate.decision import Decision, Rules, Sample, decide, overall
from bench.gate.outcome import GateTest, Judgment, sentence
from metrics.stats import clustered_mean
from metrics.stats.margin import (
    Pilot,
    highest_rate,
    planned_from,
    planned_prompts,
    prompts_to_decide,
)


def decide_gate(samples: Sequence[Sample], rules: Rules) -> Judgment:
    """Take one look after another until the gate is decided or all data are used."""
    look, decisions = decide(samples, rules)
    n_open = max(1, sum(decision.verdict == "inconclusive" for decision in decisions))
    tests = tuple(
        _test(sample, rules, decision, n_taken=look, n_open=n_open)
        for sample, decision in zip(samples, decisions, strict=True)
    )
    return Judgment(overall(decisions), tests, look)


def planned(samples: Sequence[Sample], rules: Rules, n_taken: int) -> int | None:
    """Return the prompts at which all tests together pass with the rules' power without a loss.

    From the data of a look; None if a spread is not known. A false regression ends a gate too, so
    the power is increased by half of alpha.
    """
    spreads = [_spread(sample, _data(sample, n_taken)) for sample in samples]
    if not samples or None in spreads:
        return None
    effects = [
        float(f"{sample.margin / spread:.3g}")  # equal ones share a computation
        for sample, spread in zip(samples, spreads, strict=True)
        if spread is not None
    ]
    power = min(rules.power + rules.alpha / 2, 0.999)
    shares = samples[0].shares if len({s.shares for s in samples}) == 1 else (1.0,)
    n = planned_prompts(tuple(sorted(effects)), alpha=rules.alpha, power=power, shares=shares)
    pilots = [Pilot(_data(sample, n_taken), sample.margin, sample.floor) for sample in samples]
    least = max(n, rules.min_prompts)
    return planned_from(pilots, alpha=rules.alpha, power=power, shares=shares, least=least)


def _test(
    sample: Sample, rules: Rules, decision: Decision, *, n_taken: int, n_open: int
) -> GateTest:
    x, verdict = _data(sample, n_taken), decision.verdict
    sign = 1.0 if sample.better == "higher" else -1.0
    estimate = clustered_mean(x.tolist(), [f"{i:09}" for i in range(len(x))], seed=rules.seed)
    ends = [None if v is None else sign * v for v in (estimate.low, estimate.high)]
    low, high = ends if sign > 0 else ends[::-1]
    spread, further = _spread(sample, x), None
    if verdict == "inconclusive" and sample.missing is None:
        further = _further_images(sample, rules, x, spread=spread, n_open=n_open)
    share = sample.shares[max(min(n_taken, len(sample.looks)) - 1, 0)]
    collapse = sample.collapse if len(x) else None
    n_collapsed = None if collapse is None else int(collapse.count(x))
    test = GateTest(
        plugin=sample.plugin,
        metric=sample.metric,
        better=sample.better,
        margin=sample.margin,
        verdict=verdict,
        difference=None if estimate.value is None else sign * estimate.value,
        low=low,
        high=high,
        n_prompts=len(x),
        n_planned_prompts=round(len(x) / share),
        n_images=round(len(x) * sample.n_per_prompt),
        spread=spread,
        p_loss=decision.p.loss,
        p_margin=decision.p.within,
        p_beyond=decision.p.beyond,
        p_collapse=decision.p.collapse,
        collapse=None if collapse is None else float(collapse.least(x)),
        n_collapsed=n_collapsed,
        n_gained=None if collapse is None else int(collapse.count(-x)),
        collapse_rate_high=(
            None if n_collapsed is None else highest_rate(n_collapsed, len(x), rules.alpha)
        ),
        power_to_pass=decision.power if sample.looks else None,
        further_images=further,
        reason=_reason(sample, rules, x, decision),
    )
    return replace(test, sentence=sentence(test, rules))


def _reason(sample: Sample, rules: Rules, x: np.ndarray, decision: Decision) -> str | None:
    """Return why a test is open; of a decided one None."""
    if decision.verdict != "inconclusive":
        return None
    if sample.missing is not None:
        return sample.missing
    if not sample.looks:
        return "the candidate does not have all images of the first look yet"
    if decision.p.loss <= rules.alpha:
        return "a loss is shown, and it may be within the margin at the last look"
    if len(x) < rules.min_prompts:
        return f"{len(x)} prompts are fewer than the policy's min_prompts, {rules.min_prompts}"
    return "neither a loss nor its absence within the margin is shown"


def _further_images(
    sample: Sample, rules: Rules, x: np.ndarray, *, spread: float | None, n_open: int
) -> int | None:
    """Return the number of further images that the candidate needs; None without a spread."""
    if spread is None:
        return None
    mean = float(x.mean())
    effect = max(mean + sample.margin, -mean)  # the nearer of the two verdicts to show
    n = prompts_to_decide(spread, effect=effect, alpha=rules.alpha / n_open, power=rules.power)
    more = max(n, rules.min_prompts) - len(x)
    return math.ceil(max(more, 1) * sample.n_per_prompt)


def _spread(sample: Sample, x: np.ndarray) -> float | None:
    """Return the standard deviation of the prompts' differences, at least the sample's floor."""
    if len(x) < 2:
        return None
    return math.sqrt(max(float(x.var(ddof=1)), sample.floor)) or None


def _data(sample: Sample, n_taken: int) -> np.ndarray:
    taken = sample.looks[:n_taken]
    return taken[-1] if taken else np.empty(0)
