"""Decide a gate: paired differences in, verdicts out.

Two one-sided hypotheses a test: "no loss" (difference 0) and "a loss of the margin" (difference
-margin). Refuting the second is a pass; refuting only the first, a regression; neither,
inconclusive. Each kind is corrected by Holm over all tests of the gate; early looks follow the
planned design of `metrics.stats.sequential`, so stopping early keeps the error rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.stats import clustered_mean, holm
from metrics.stats.margin import (
    N_FLIPS,
    Pilot,
    least_variance,
    loss_p,
    planned_from,
    planned_prompts,
    prompts_to_decide,
    within_margin_p,
)
from metrics.stats.sequential import sequential_p, z_of

VerdictName = Literal["pass", "regression", "inconclusive"]
EXIT_CODES: dict[VerdictName, int] = {"pass": 0, "regression": 1, "inconclusive": 3}


@dataclass(frozen=True)
class Rules:
    """The numbers of a policy; see `bench.gate.policy.Policy`.

    A regression needs fewer prompts than a pass: sign flips are exact at any number, the test of
    the margin is not.
    """

    alpha: float = 0.05
    power: float = 0.8
    min_prompts: int = 20
    min_prompts_regression: int = 10
    seed: int = 0
    n_flips: int = N_FLIPS


@dataclass(frozen=True)
class Sample:
    """Paired differences of one plugin under one metric.

    `looks[k]` holds each prompt's mean difference [n_prompts] by look k, positive where the
    candidate is better; `shares[k]` is that look's share of the planned data. `step` and
    `n_per_prompt` are as in `metrics.stats.margin`. `missing` lists missing data.
    """

    plugin: str
    metric: str
    better: Literal["higher", "lower"]
    margin: float
    looks: tuple[np.ndarray, ...]
    shares: tuple[float, ...]
    n_per_prompt: float
    step: float = 0.0
    missing: str | None = None


@dataclass(frozen=True)
class GateTest:
    """The outcome for one plugin and metric.

    `difference` is candidate - baseline in the metric's units with its own 95 % interval;
    `p_loss` and `p_margin` are Holm's, over all looks so far. `further_images` of the candidate
    are enough to decide if the difference does not change.
    """

    plugin: str
    metric: str
    better: str
    margin: float
    verdict: VerdictName
    difference: float | None
    low: float | None
    high: float | None
    n_prompts: int
    n_images: int
    spread: float | None
    p_loss: float
    p_margin: float
    further_images: int | None
    reason: str | None


@dataclass(frozen=True)
class Judgment:
    """All tests and the verdict; `look` is the number of the look that ended the gate."""

    verdict: VerdictName
    tests: tuple[GateTest, ...]
    look: int


@dataclass(frozen=True)
class Decision:
    """A test's verdict with Holm's p-values."""

    verdict: VerdictName
    p_loss: float
    p_margin: float


def decide_gate(samples: Sequence[Sample], rules: Rules) -> Judgment:
    """Take one look after another until the gate is decided or all data are used."""
    look, decisions = decide(samples, rules)
    n_open = max(1, sum(decision.verdict == "inconclusive" for decision in decisions))
    tests = tuple(
        _test(sample, rules, decision, n_taken=look, n_open=n_open)
        for sample, decision in zip(samples, decisions, strict=True)
    )
    return Judgment(overall(decisions), tests, look)


def decide(samples: Sequence[Sample], rules: Rules) -> tuple[int, list[Decision]]:
    """Return the number of looks taken and each test's decision after them."""
    n_looks = max([1, *(len(sample.looks) for sample in samples)])
    z_values: list[list[tuple[float, float]]] = [[] for _ in samples]
    decisions: list[Decision] = []
    for look in range(n_looks):
        for sample, z in zip(samples, z_values, strict=True):
            z += [_z_values(sample, rules, x) for x in sample.looks[look : look + 1]]
        decisions = _decisions(samples, z_values, rules)
        if overall(decisions) != "inconclusive":
            return look + 1, decisions
    return n_looks, decisions


def _decisions(
    samples: Sequence[Sample], z_values: Sequence[Sequence[tuple[float, float]]], rules: Rules
) -> list[Decision]:
    """Decide by sequential p-values of both kinds, corrected by Holm; 1 if nothing is known."""
    raw = [
        [
            sequential_p([pair[kind] for pair in z], sample.shares[: len(z)])
            if z and sample.missing is None
            else 1.0
            for sample, z in zip(samples, z_values, strict=True)
        ]
        for kind in (0, 1)
    ]
    return [
        Decision(_verdict(loss, margin, rules.alpha), loss, margin)
        for loss, margin in zip(holm(raw[0]), holm(raw[1]), strict=True)
    ]


def overall(decisions: Sequence[Decision]) -> VerdictName:
    """Return regression if any test is one, pass if all tests are, else inconclusive."""
    verdicts = {decision.verdict for decision in decisions}
    if "regression" in verdicts:
        return "regression"
    return "pass" if verdicts == {"pass"} else "inconclusive"


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
    pilots = [Pilot(_data(sample, n_taken), sample.margin, _floor(sample)) for sample in samples]
    least = max(n, rules.min_prompts)
    return planned_from(pilots, alpha=rules.alpha, power=power, shares=shares, least=least)


def _verdict(p_loss: float, p_margin: float, alpha: float) -> VerdictName:
    if p_margin <= alpha:
        return "pass"
    return "regression" if p_loss <= alpha else "inconclusive"


def _z_values(sample: Sample, rules: Rules, x: np.ndarray) -> tuple[float, float]:
    """Return evidence for a loss, and for none beyond the margin, as normal values or NaN."""
    loss = margin = None
    if len(x) >= rules.min_prompts_regression:
        loss = loss_p(x, seed=rules.seed, n_flips=rules.n_flips)
    if len(x) >= rules.min_prompts:
        margin = within_margin_p(
            x, sample.margin, step=sample.step, n_per_prompt=sample.n_per_prompt
        )
    return math.nan if loss is None else z_of(loss), math.nan if margin is None else z_of(margin)


def _test(
    sample: Sample, rules: Rules, decision: Decision, *, n_taken: int, n_open: int
) -> GateTest:
    x, verdict = _data(sample, n_taken), decision.verdict
    sign = 1.0 if sample.better == "higher" else -1.0
    estimate = clustered_mean(x.tolist(), [f"{i:09}" for i in range(len(x))], seed=rules.seed)
    ends = [None if v is None else sign * v for v in (estimate.low, estimate.high)]
    low, high = ends if sign > 0 else ends[::-1]
    spread = _spread(sample, x)
    further = None
    if verdict == "inconclusive" and sample.missing is None:
        further = _further_images(sample, rules, x, spread=spread, n_open=n_open)
    return GateTest(
        plugin=sample.plugin,
        metric=sample.metric,
        better=sample.better,
        margin=sample.margin,
        verdict=verdict,
        difference=None if estimate.value is None else sign * estimate.value,
        low=low,
        high=high,
        n_prompts=len(x),
        n_images=round(len(x) * sample.n_per_prompt),
        spread=spread,
        p_loss=decision.p_loss,
        p_margin=decision.p_margin,
        further_images=further,
        reason=_reason(sample, rules, x, verdict),
    )


def _reason(sample: Sample, rules: Rules, x: np.ndarray, verdict: VerdictName) -> str | None:
    if sample.missing is not None:
        return sample.missing
    if not sample.looks:
        return "the candidate does not have all images of the first look yet"
    if verdict == "inconclusive" and len(x) < rules.min_prompts:
        return f"{len(x)} prompts are fewer than the policy's min_prompts, {rules.min_prompts}"
    if verdict == "inconclusive":
        return "neither a loss nor its absence within the margin is shown"
    return None


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
    """Return the standard deviation of the prompts' differences, at least `_floor`."""
    if len(x) < 2:
        return None
    return math.sqrt(max(float(x.var(ddof=1)), _floor(sample))) or None


def _floor(sample: Sample) -> float:
    return least_variance(sample.margin, step=sample.step, n_per_prompt=sample.n_per_prompt)


def _data(sample: Sample, n_taken: int) -> np.ndarray:
    taken = sample.looks[:n_taken]
    return taken[-1] if taken else np.empty(0)
