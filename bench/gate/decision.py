"""Decide a gate's tests, look by look: paired differences in, verdicts out.

Four one-sided hypotheses a test: "no loss" (difference 0), "a loss of the margin" (difference
-margin), "no loss beyond the margin", and "no more prompts collapse than may". Each kind is
corrected by Holm over all tests of the gate; early looks follow the planned design of
`metrics.stats.sequential`, so stopping early keeps the error rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from metrics.stats import MIN_CLUSTERS, holm
from metrics.stats.margin import N_FLIPS, collapse_p, floor_of, loss_p, mean_p
from metrics.stats.sequential import conditional_power, running_p

VerdictName = Literal[
    "pass", "identical", "real loss inside the margin", "regression", "inconclusive"
]
EXIT_CODES: dict[VerdictName, int] = {
    "pass": 0,
    "identical": 0,
    "real loss inside the margin": 0,
    "regression": 1,
    "inconclusive": 3,
}
FUTILE = 0.05  # chance to pass at the last look below which a loss ends the gate early
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Rules:
    """The numbers of a policy; see `bench.gate.policy.Policy`.

    A regression needs fewer prompts than a pass: sign flips are exact at any number, the test of
    the margin is not.
    """

    alpha: float = 0.05
    power: float = 0.8
    min_prompts: int = 60
    min_prompts_regression: int = 10
    max_collapse_rate: float = 0.02
    seed: int = 0
    n_flips: int = N_FLIPS


@dataclass(frozen=True)
class Collapse:
    """The loss of one prompt that counts as a collapse.

    `loss`, and at least `spreads` robust standard deviations of the prompts' differences.
    """

    loss: float
    spreads: float = 0.0

    def least(self, x: np.ndarray) -> np.ndarray:
        """Return the loss [...] that counts among prompts [..., n]."""
        # 1.4826 x the median absolute deviation: the standard deviation of normal values
        middle = np.median(x, axis=-1, keepdims=True)
        spread = 1.4826 * np.median(np.abs(x - middle), axis=-1)
        return np.maximum(self.loss, self.spreads * spread)

    def count(self, x: np.ndarray) -> np.ndarray:
        """Return how many [...] of the prompts [..., n] collapsed."""
        return (x <= _ROUNDING - self.least(x)[..., None]).sum(axis=-1)


@dataclass(frozen=True)
class Sample:
    """Paired differences of one plugin under one metric.

    `looks[k]` holds each prompt's mean difference [n_prompts] by look k, positive where the
    candidate is better; `shares[k]` is that look's share of the planned data. `step` and `spread`
    are as in `metrics.stats.margin`; without `collapse` single prompts are not tested.
    `is_identical` means that all images of the candidate are the baseline's, byte by byte.
    `missing` lists missing data.
    """

    plugin: str
    metric: str
    better: Literal["higher", "lower"]
    margin: float
    looks: tuple[np.ndarray, ...]
    shares: tuple[float, ...]
    n_per_prompt: float
    step: float = 0.0
    spread: float = 0.0
    collapse: Collapse | None = None
    is_identical: bool = False
    missing: str | None = None

    @property
    def floor(self) -> float:
        """The least variance of a prompt's difference."""
        return floor_of(self.margin, step=self.step, spread=self.spread)


class PValues(NamedTuple):
    """One p-value of each kind: of a loss, within the margin, beyond it, of collapses."""

    loss: float
    within: float
    beyond: float
    collapse: float


@dataclass(frozen=True)
class Evidence:
    """What a test's looks show: sequential p-values [K, 4] of `PValues`, not corrected yet.

    `powers[k]` is the chance to pass at the last look; the test has `n_planned` looks.
    """

    p: np.ndarray
    powers: np.ndarray
    n_planned: int
    is_identical: bool = False
    is_missing: bool = False


@dataclass(frozen=True)
class Decision:
    """A test's verdict with Holm's p-values; `power` is the chance to pass at the last look."""

    verdict: VerdictName
    p: PValues
    power: float | None = None


def decide(samples: Sequence[Sample], rules: Rules) -> tuple[int, list[Decision]]:
    """Return the number of looks taken and each test's decision after them."""
    return decide_from([evidence_of(sample, rules)[0] for sample in samples], rules)


def evidence_of(sample: Sample, rules: Rules) -> list[Evidence]:
    """Return the evidence of a sample; of many gates at once if its looks are [n_gates, n]."""
    looks = [np.atleast_2d(x) for x in sample.looks]
    if not looks:
        looks = [np.empty((1, 0))]
    shares = sample.shares[: len(looks)]
    z_gkt = np.stack([_z_values(sample, rules, x) for x in looks], axis=1)
    p_gkt = np.stack([running_p(z_gkt[..., kind], shares) for kind in range(4)], axis=-1)
    pairs = zip(looks, shares, strict=True)
    powers_gk = np.stack([_power(sample, rules, x, share) for x, share in pairs], axis=1)
    return [
        Evidence(p, powers, len(sample.shares), sample.is_identical, sample.missing is not None)
        for p, powers in zip(p_gkt, powers_gk, strict=True)
    ]


def decide_from(evidence: Sequence[Evidence], rules: Rules) -> tuple[int, list[Decision]]:
    """Take one look after another until the gate is decided or all data are used."""
    n_looks = max([1, *(len(one.p) for one in evidence)])
    decisions: list[Decision] = []
    # identical images are known of all looks at once
    first = n_looks - 1 if all(one.is_identical for one in evidence) else 0
    for look in range(first, n_looks):
        decisions = _decisions(evidence, rules, look)
        if overall(decisions) != "inconclusive":
            return look + 1, decisions
    return n_looks, decisions


def overall(decisions: Sequence[Decision]) -> VerdictName:
    """Return the verdict of the gate: the worst of its tests'; identical only if all are."""
    verdicts = {decision.verdict for decision in decisions}
    if "regression" in verdicts:
        return "regression"
    if not verdicts or "inconclusive" in verdicts:
        return "inconclusive"
    if verdicts == {"identical"}:
        return "identical"
    real: VerdictName = "real loss inside the margin"
    return real if real in verdicts else "pass"


def _decisions(evidence: Sequence[Evidence], rules: Rules, look: int) -> list[Decision]:
    """Decide by sequential p-values, each kind corrected by Holm; 1 where data are missing."""
    raw = [np.ones(4) if one.is_missing else one.p[min(look, len(one.p) - 1)] for one in evidence]
    kinds = [holm([float(p[kind]) for p in raw]) for kind in range(4)]
    corrected = [PValues(*p) for p in zip(*kinds, strict=True)]
    found = []
    for one, p in zip(evidence, corrected, strict=True):
        is_last = look + 1 >= one.n_planned
        power = None if is_last else float(one.powers[min(look, len(one.powers) - 1)])
        found.append(Decision(_verdict(one, p, power, rules.alpha), p, power))
    return found


def _verdict(one: Evidence, p: PValues, power: float | None, alpha: float) -> VerdictName:
    """Decide a test; before the last look a loss alone does not end it (`power` is known then)."""
    if one.is_identical:
        return "identical"
    if p.collapse <= alpha:
        return "regression"
    if p.within <= alpha:
        return "real loss inside the margin" if p.loss <= alpha else "pass"
    is_final = power is None or power < FUTILE or p.beyond <= alpha
    return "regression" if p.loss <= alpha and is_final else "inconclusive"


def _z_values(sample: Sample, rules: Rules, x_gn: np.ndarray) -> np.ndarray:
    """Return the evidence of a look as normal values [n_gates, 4]; NaN with too few prompts."""
    from scipy.special import ndtri

    n_gates, n = x_gn.shape
    p = np.full((n_gates, 4), np.nan)
    if n >= max(rules.min_prompts_regression, MIN_CLUSTERS):
        p[:, 0] = [loss_p(x, seed=rules.seed, n_flips=rules.n_flips) for x in x_gn]
        p[:, 2] = mean_p(-x_gn, sample.margin, floor=sample.floor)
        p[:, 3] = 1.0
        if sample.collapse:
            lost, gained = sample.collapse.count(x_gn), sample.collapse.count(-x_gn)
            p[:, 3] = collapse_p(lost, n, rules.max_collapse_rate, n_gained=gained)
    if n >= max(rules.min_prompts, MIN_CLUSTERS):
        p[:, 1] = mean_p(x_gn, -sample.margin, floor=sample.floor)
    return -ndtri(p.clip(1e-12, 1 - 1e-12))


def _power(sample: Sample, rules: Rules, x_gn: np.ndarray, share: float) -> np.ndarray:
    """Return the chance [n_gates] to pass at the last look under the current trend.

    At a level without Holm's correction, which the last of several tests has: never too small.
    """
    n_gates, n = x_gn.shape
    if n < 2 or share >= 1:
        return np.ones(n_gates)
    if round(n / share) < rules.min_prompts:
        return np.zeros(n_gates)
    spread = np.sqrt(x_gn.var(axis=1, ddof=1).clip(max(sample.floor, 1e-18)))
    z = math.sqrt(n) * (x_gn.mean(axis=1) + sample.margin) / spread
    return conditional_power(z, share, alpha=rules.alpha)
