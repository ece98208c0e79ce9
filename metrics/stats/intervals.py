"""Means with intervals, paired differences, and corrections for many tests.

Images of one prompt are correlated, so all resampling draws entire prompts (clusters). It is
seeded: the same numbers give the same interval. Too little data gives None with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np

from metrics.stats.rates import clustered_pair_interval, clustered_rate_interval, is_binary

MIN_CLUSTERS = 5  # of a test by sign flips
MIN_PROMPTS = 12  # of an interval: below, none of those here covers what it should
N_RESAMPLES = 4000
N_FLIPS = 9999
Side = Literal["both", "less", "greater"]
# weights of the clusters, one row a resample [R, C] -> the statistic of each [R]
Statistic = Callable[[np.ndarray], np.ndarray]
EXACT_FLIPS_CLUSTERS = 13
_FLIPPED_AT_ONCE = 256  # samples
_ROUNDING = 1e-12  # relative: smaller spreads are not measured
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; `low` and `high` are None together, `reason` says why.

    `n` counts values, `n_clusters` prompts.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_clusters: int
    reason: str | None = None


def clustered_mean(
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    support: tuple[float, float] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    may_be_rate: bool = True,
) -> Estimate:
    """Return the mean of values with an interval over clusters; none below `MIN_PROMPTS`.

    Rates, all values 0 or 1, if they `may_be_rate` (differences are none): exact
    (`metrics.stats.rates`). Else BCa (Efron 1987; Efron and Tibshirani 1993, eq. 14.10) at the
    levels of Student's t (Hesterberg 2015), percentile where BCa is not defined. Where values pile
    up at one end of the `support`, the other end counts as a
    third of a prompt: rare failures may not have been drawn.
    """
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values but {len(clusters)} clusters")
    if not len(values):
        return Estimate(None, None, None, 0, 0, "no values")
    sums, counts = _by_cluster(values, clusters)
    mean, n_clusters = float(sums.sum() / counts.sum()), len(sums)
    if n_clusters < MIN_PROMPTS:
        return Estimate(mean, None, None, len(values), n_clusters, _few(n_clusters))
    if may_be_rate and is_binary(values):
        low, high = clustered_rate_interval(values, clusters, confidence=confidence)
        return Estimate(mean, low, high, len(values), n_clusters)
    if np.ptp(np.asarray(values, float)) <= _ROUNDING * max(1.0, abs(mean)):
        equal = f"all {len(values)} values are equal: resampling cannot tell their spread"
        return Estimate(mean, None, None, len(values), n_clusters, equal)
    # clusters may differ in size: the mean is a ratio of two weighted sums
    low, high = bootstrap_interval(
        lambda weights: (weights @ sums) / (weights @ counts),
        n_clusters,
        confidence=confidence,
        seed=seed,
        n_resamples=n_resamples,
    )
    if support is not None:
        wider = _beside_far_end(sums / counts, support, confidence=confidence)
        low, high = min(low, wider[0]), max(high, wider[1])
    return Estimate(mean, low, high, len(values), n_clusters)


def _beside_far_end(
    means: np.ndarray, support: tuple[float, float], *, confidence: float
) -> tuple[float, float]:
    """Return Student's interval with a third of a prompt at the end far from most means.

    Empty, (inf, -inf), unless three quarters of them are within a tenth of the other end. Ours.
    """
    from scipy.special import stdtrit

    low, high = support
    near = [(np.abs(means - end) <= 0.1 * (high - low)).mean() for end in (low, high)]
    if max(near) < 0.75 or high <= low:
        return math.inf, -math.inf
    far = high if near[0] > near[1] else low
    x, w = np.append(means, far), np.append(np.ones(len(means)), 1 / 3)
    center = float(w @ x / w.sum())
    variance = float(w @ (x - center) ** 2 / (w.sum() - 1))
    half = float(stdtrit(len(means) - 1, 0.5 + confidence / 2)) * math.sqrt(variance / w.sum())
    return max(center - half, low), min(center + half, high)


def bootstrap_interval(
    statistic: Statistic,
    n_clusters: int,
    *,
    confidence: float = 0.95,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> tuple[float, float]:
    """Return the interval of a statistic of the clusters' weights; skip draws that are NaN.

    Its levels are expanded to those of Student's t, since a bootstrap of few clusters is too
    narrow (Hesterberg 2015, The American Statistician 69, section 5.3). All that one statistic is
    made of is resampled jointly: a ratio's parts share their prompts.
    """
    # draws: the statistic at multinomial weights; point: at equal ones; jackknife: one weight 0
    draws = statistic(_resample_weights(n_clusters, n_resamples, seed))
    draws = draws[np.isfinite(draws)]
    value = float(statistic(np.ones((1, n_clusters)))[0])
    left_out = statistic(1.0 - np.eye(n_clusters))
    expanded = _expanded(confidence, n_clusters)
    levels = _bca_levels(draws, value, left_out=left_out, confidence=expanded)
    low, high = np.quantile(draws, levels)
    return float(low), float(high)


def _expanded(confidence: float, n_clusters: int) -> float:
    """Return the level at which a percentile interval is as wide as Student's: always wider."""
    from scipy.special import ndtr, stdtrit

    if n_clusters < 2:
        return confidence
    # Phi(-sqrt(n / (n - 1)) t) in each tail
    t = float(stdtrit(n_clusters - 1, 0.5 + confidence / 2))
    return 1 - 2 * float(ndtr(-math.sqrt(n_clusters / (n_clusters - 1)) * t))


def paired_difference(
    a: Mapping[tuple[str, int], float],
    b: Mapping[tuple[str, int], float],
    *,
    cluster_of: Mapping[str, str],
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Return the mean of a - b over the (case id, seed) pairs of both, with an interval.

    `cluster_of` maps a case to its prompt. Rates on both sides: Tango's interval.
    """
    pairs = sorted(a.keys() & b.keys())
    if not pairs:
        return Estimate(None, None, None, 0, 0, "no (case, seed) pair has both values")
    differences = [a[pair] - b[pair] for pair in pairs]
    clusters = [cluster_of[case_id] for case_id, _ in pairs]
    n_clusters = len(set(clusters))
    if n_clusters >= MIN_PROMPTS and is_binary([v for p in pairs for v in (a[p], b[p])]):
        low, high = clustered_pair_interval(differences, clusters, confidence=confidence)
        return Estimate(float(np.mean(differences)), low, high, len(pairs), n_clusters)
    return clustered_mean(
        differences, clusters, confidence=confidence, seed=seed, may_be_rate=False
    )


def jackknife(
    value: float, left_out: Mapping[str, float], *, n: int, confidence: float = 0.95
) -> Estimate:
    """Return the interval of a statistic from its leave-one-cluster-out values (Tukey 1958)."""
    n_clusters = len(left_out)
    if n_clusters < MIN_PROMPTS:
        return Estimate(value, None, None, n, n_clusters, _few(n_clusters))
    from scipy.special import stdtrit

    # variance (C - 1) / C sum_i (t_i - mean)^2 (Efron and Tibshirani 1993, eq. 11.5), C - 1 degrees
    parts = np.array([left_out[name] for name in sorted(left_out)])
    variance = (n_clusters - 1) / n_clusters * ((parts - parts.mean()) ** 2).sum()
    half = float(stdtrit(n_clusters - 1, 0.5 + confidence / 2)) * math.sqrt(variance)
    if half <= _ROUNDING * max(1.0, abs(value)):
        return Estimate(value, None, None, n, n_clusters, "no prompt changes it: no spread")
    return Estimate(value, value - half, value + half, n, n_clusters)


def paired_jackknife(
    a: tuple[float, Mapping[str, float]],
    b: tuple[float, Mapping[str, float]],
    *,
    n: int,
    confidence: float = 0.95,
) -> Estimate:
    """Return the interval of the difference of two statistics, each (value, leave-one-out values).

    Both must come from the same clusters; else the interval is None with a reason.
    """
    difference = a[0] - b[0]
    if a[1].keys() != b[1].keys():
        return Estimate(difference, None, None, n, 0, "the two sets hold different prompts")
    left_out = {name: a[1][name] - b[1][name] for name in a[1]}
    return jackknife(difference, left_out, n=n, confidence=confidence)


def sign_flip_p(
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int = 0,
    side: Side = "both",
    n_flips: int = N_FLIPS,
) -> float | None:
    """Return the p-value that the mean is 0, from flipping the signs of clusters.

    Exact up to 13 clusters, else seeded flips with the observed one added (Phipson and Smyth
    2010). `side` "less" is small where the mean is below 0. None below the least number of
    clusters.
    """
    sums, _ = _by_cluster(values, clusters)
    if len(sums) < MIN_CLUSTERS:
        return None
    return float(sign_flip_ps(sums[None], seed=seed, side=side, n_flips=n_flips)[0])


def sign_flip_ps(
    x_rn: np.ndarray, *, seed: int = 0, side: Side = "both", n_flips: int = N_FLIPS
) -> np.ndarray:
    """Return `sign_flip_p` [r] of samples [r, n] of cluster sums, with the same flips for all."""
    signs = _signs(x_rn.shape[1], seed, n_flips)
    return np.concatenate(
        [
            _flipped_ps(signs, x_rn[start : start + _FLIPPED_AT_ONCE], side)
            for start in range(0, len(x_rn), _FLIPPED_AT_ONCE)
        ]
        or [np.empty(0)]
    )


def _flipped_ps(signs_fn: np.ndarray, x_rn: np.ndarray, side: Side) -> np.ndarray:
    # under the null hypothesis each cluster's sum is as likely as its negative
    flipped_fr, total_r = signs_fn @ x_rn.T, x_rn.sum(axis=1)
    # sums that differ by rounding alone are ties, which count as extreme
    slack_r = 1e-12 * np.abs(x_rn).sum(axis=1)
    extreme = {
        "both": lambda: np.abs(flipped_fr) >= np.abs(total_r) - slack_r,
        "less": lambda: flipped_fr <= total_r + slack_r,
        "greater": lambda: flipped_fr >= total_r - slack_r,
    }[side]()
    if x_rn.shape[1] <= EXACT_FLIPS_CLUSTERS:
        return extreme.mean(axis=0)
    return (extreme.sum(axis=0) + 1) / (len(extreme) + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return adjusted p-values that keep the family-wise error rate (Holm 1979)."""
    # step-down: the k-th smallest p times (m - k + 1), never below the one before it
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(p_values), 0, -1)
    adjusted = np.maximum.accumulate(np.asarray(p_values, float)[order] * steps).clip(max=1.0)
    out = np.empty(len(p_values))
    out[order] = adjusted
    return [float(p) for p in out]


def _by_cluster(values: Sequence[float], clusters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and count of each cluster, in the order of the clusters' names."""
    _, labels = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.bincount(labels, weights=np.asarray(values, float))
    return sums, np.bincount(labels).astype(float)


def _few(n_clusters: int) -> str:
    have = "1 prompt is" if n_clusters == 1 else f"{n_clusters} prompts are"
    return f"{have} too few for an interval (at least {MIN_PROMPTS})"


@lru_cache(maxsize=16)
def _resample_weights(n_clusters: int, n_resamples: int, seed: int) -> np.ndarray:
    """Draw how often each resample takes each cluster, R x C; the same for all statistics."""
    rng = np.random.default_rng([seed, n_clusters])
    even = np.full(n_clusters, 1 / n_clusters)
    return rng.multinomial(n_clusters, even, size=n_resamples).astype(float)


@lru_cache(maxsize=8)
def _signs(n_clusters: int, seed: int, n_flips: int) -> np.ndarray:
    if n_clusters <= EXACT_FLIPS_CLUSTERS:
        # all 2^C sign patterns, by the bits of their index
        codes = np.arange(2**n_clusters)[:, None] >> np.arange(n_clusters)
        return (codes & 1) * 2.0 - 1
    rng = np.random.default_rng([seed, n_clusters])
    return rng.integers(0, 2, (n_flips, n_clusters)) * 2.0 - 1


def _bca_levels(
    draws: np.ndarray, value: float, *, left_out: np.ndarray, confidence: float
) -> tuple[float, float]:
    """Return the BCa levels of the bootstrap draws; ties count half, as in scipy.

    Efron and Tibshirani 1993, section 14.3.
    """
    plain = ((1 - confidence) / 2, (1 + confidence) / 2)
    # share of draws below the point estimate -> bias correction z0 (ibid., eq. 14.14)
    below = float(((draws < value).mean() + (draws <= value).mean()) / 2)
    # skewness of the jackknife values -> acceleration a (ibid., eq. 14.15)
    spread = left_out.mean() - left_out
    scale = float((spread**2).sum() ** 1.5)
    if not 0 < below < 1 or not 0 < scale < math.inf:
        return plain  # percentile interval
    bias = _NORMAL.inv_cdf(below)
    acceleration = float((spread**3).sum()) / (6 * scale)
    # level of alpha: Phi(z0 + (z0 + z_alpha) / (1 - a (z0 + z_alpha))) (ibid., eq. 14.10)
    shifts = [bias + _NORMAL.inv_cdf(level) for level in plain]
    low, high = (_NORMAL.cdf(bias + s / (1 - acceleration * s)) for s in shifts)
    return low, high
