"""Intervals and one-sided tests from their textbook formulas, with scipy and statsmodels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import optimize, stats
from statsmodels.stats.weightstats import DescrStatsW

MIN_PROMPTS = 12  # of an interval
MIN_TESTED = 5  # of a test
LEVEL = 0.95
ROUNDING = 1e-12  # relative: a smaller spread is none
# a bootstrap has other draws here: ends agree within this share of the interval's width, and within
# twice the range of the ends over some draws where they vary more (skewed scores of few prompts)
N_RESAMPLES, N_DRAWS, OF_WIDTH = 4000, 5, 0.08


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its interval; `slack` is how far ends may be off."""

    value: float | None
    low: float | None = None
    high: float | None = None
    slack: float = 0.0
    n: int = 0
    n_prompts: int = 0


def mean_over_prompts(
    values: Sequence[float],
    prompts: Sequence[str],
    *,
    support: tuple[float, float] | None = None,
) -> Interval:
    """Return a mean of image scores with its interval over prompts: exact for rates, else BCa."""
    if not values:
        return Interval(None)
    frame = pd.DataFrame({"value": values, "prompt": prompts})
    by_prompt = frame.groupby("prompt")["value"].agg(["sum", "count"])
    mean, n = float(frame["value"].mean()), len(by_prompt)
    bare = Interval(mean, n=len(values), n_prompts=n)
    if n < MIN_PROMPTS:
        return bare
    if set(values) <= {0.0, 1.0}:
        low, high = clopper_pearson(mean, effective_number(frame))
        return Interval(mean, low, high, n=len(values), n_prompts=n)
    if np.ptp(frame["value"]) <= ROUNDING * max(1.0, abs(mean)):
        return bare
    low, high, slack = bca(tuple(by_prompt["sum"]), tuple(by_prompt["count"]))
    if support is not None:
        wider = beside_far_end((by_prompt["sum"] / by_prompt["count"]).to_numpy(), support)
        low, high = min(low, wider[0]), max(high, wider[1])
    return Interval(mean, low, high, slack, len(values), n)


def paired_difference(
    a: Mapping[tuple[str, int], float],
    b: Mapping[tuple[str, int], float],
    prompt_of: Mapping[str, str],
) -> Interval:
    """Return the mean of a - b over common pairs: Tango's interval for rates, else BCa."""
    pairs = [pair for pair in a if pair in b]
    if not pairs:
        return Interval(None)
    differences = [a[pair] - b[pair] for pair in pairs]
    prompts = [prompt_of[case] for case, _ in pairs]
    is_rate = {a[p] for p in pairs} | {b[p] for p in pairs} <= {0.0, 1.0}
    if len(set(prompts)) < MIN_PROMPTS or not is_rate:
        return mean_over_prompts_of_differences(differences, prompts)
    n = effective_number(pd.DataFrame({"value": differences, "prompt": prompts}))
    gained, lost = ((sum(sign * d > 0 for d in differences)) / len(pairs) for sign in (1, -1))
    low, high = tango(gained * n, lost * n, n)
    return Interval(float(np.mean(differences)), low, high, 1e-6, len(pairs), len(set(prompts)))


def mean_over_prompts_of_differences(
    differences: Sequence[float], prompts: Sequence[str]
) -> Interval:
    """Return the mean of differences with its interval."""
    return mean_over_prompts(differences, prompts)


def jackknife(value: float, without: Mapping[str, float], n: int) -> Interval:
    """Return Student's interval of a statistic from its pseudo-values (Tukey 1958)."""
    count = len(without)
    bare = Interval(value, n=n, n_prompts=count)
    if count < MIN_PROMPTS:
        return bare
    pseudo = np.array([count * value - (count - 1) * left for left in without.values()])
    half = stats.t.ppf((1 + LEVEL) / 2, count - 1) * stats.sem(pseudo)
    if half <= ROUNDING * max(1.0, abs(value)):
        return bare
    return Interval(value, value - half, value + half, 0.0, n, count)


def clopper_pearson(rate: float, n: float) -> tuple[float, float]:
    """Return the exact interval of a rate (Clopper and Pearson 1934); `n` may be a fraction."""
    k, tail = rate * n, (1 - LEVEL) / 2
    low = 0.0 if rate <= 0 else float(stats.beta.ppf(tail, k, n - k + 1))
    high = 1.0 if rate >= 1 else float(stats.beta.ppf(1 - tail, k + 1, n - k))
    return low, high


def effective_number(frame: pd.DataFrame) -> float:
    """Return the images over the design effect, with the intraclass correlation by ANOVA."""
    groups = [group.to_numpy() for _, group in frame.groupby("prompt")["value"]]
    n, k = len(frame), len(groups)
    if n == k or k < 2:
        return float(k)
    sizes = np.array([len(group) for group in groups])
    within = sum(((g - g.mean()) ** 2).sum() for g in groups) / (n - k)
    between = sum(len(g) * (g.mean() - frame["value"].mean()) ** 2 for g in groups) / (k - 1)
    size = (n - (sizes**2).sum() / n) / (k - 1)
    spread = between + (size - 1) * within
    rho = 1.0 if spread <= 0 else float(np.clip((between - within) / spread, 0, 1))
    return n / (1 + (n / k - 1) * rho)


def tango(gained: float, lost: float, n: float) -> tuple[float, float]:
    """Return the differences at which Tango's score statistic is +-1.96 (Tango 1998, eq. 6 to 8).

    Its nuisance parameter maximizes the likelihood under a difference; here as a root of the cubic
    terms' quadratic by numpy.
    """
    z = stats.norm.ppf((1 + LEVEL) / 2)
    point = (gained - lost) / n

    def distance(d: float) -> float:
        roots = np.roots([2 * n, -gained - lost + (2 * n - gained + lost) * d, -lost * d * (1 - d)])
        q = max(0.0, float(np.max(np.real(roots))))
        variance = n * (2 * q + d * (1 - d))
        over = gained - lost - n * d
        return over * abs(over) / max(variance, 1e-300) - z * abs(z) * np.sign(point - d)

    def end(low: float, high: float) -> float:
        if distance(low) * distance(high) > 0:
            return low if abs(distance(low)) < abs(distance(high)) else high
        return float(optimize.bisect(distance, low, high, xtol=1e-12))

    eps = 1e-9
    low = -1.0 if point <= -1 + 1e-12 else end(-1 + eps, point - eps)
    high = 1.0 if point >= 1 - 1e-12 else end(point + eps, 1 - eps)
    return low, high


@lru_cache(maxsize=4096)
def bca(sums: tuple[float, ...], counts: tuple[int, ...]) -> tuple[float, float, float]:
    """Return scipy's BCa interval of a ratio of sums, at the levels of Student's t, and its slack.

    Percentile where BCa is not defined.
    """
    n = len(sums)
    t = stats.t.ppf((1 + LEVEL) / 2, n - 1)
    level = 1 - 2 * stats.norm.cdf(-math.sqrt(n / (n - 1)) * t)

    def ends(method: str, seed: int) -> tuple[float, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = stats.bootstrap(
                (np.array(sums), np.array(counts, float)),
                lambda x, y, axis=-1: x.sum(axis=axis) / y.sum(axis=axis),
                paired=True,
                vectorized=True,
                n_resamples=N_RESAMPLES,
                confidence_level=level,
                method=method,
                rng=np.random.default_rng(seed),
            )
        return found.confidence_interval.low, found.confidence_interval.high

    drawn = np.array([ends("BCa", seed) for seed in range(N_DRAWS)])
    if not np.isfinite(drawn).all():
        drawn = np.array([ends("percentile", seed) for seed in range(N_DRAWS)])
    low, high = drawn.mean(axis=0)
    slack = max(OF_WIDTH * (high - low), 2 * float(np.ptp(drawn, axis=0).max()))
    return float(low), float(high), slack


def beside_far_end(means: np.ndarray, support: tuple[float, float]) -> tuple[float, float]:
    """Return a weighted t interval with a third of a prompt at the end that few prompts reach."""
    low, high = support
    near = [(np.abs(means - end) <= 0.1 * (high - low)).mean() for end in support]
    if high <= low or max(near) < 0.75:
        return math.inf, -math.inf
    far = high if near[0] > near[1] else low
    described = DescrStatsW([*means, far], weights=[*np.ones(len(means)), 1 / 3])
    half = stats.t.ppf((1 + LEVEL) / 2, len(means) - 1) * described.std_mean
    return max(described.mean - half, low), min(described.mean + half, high)


def fieller(
    over: float, under: float, covariance: np.ndarray, dof: int
) -> tuple[float, float] | None:
    """Return Fieller's limits of over / under (Fieller 1954, as in Finney's g notation).

    `covariance` [2, 2] is that of the two means. None where the denominator is not above 0.
    """
    t = stats.t.ppf((1 + LEVEL) / 2, dof)
    (v11, v12), (_, v22) = covariance
    if under <= 0:
        return None
    g = t**2 * v22 / under**2
    if g >= 1:
        return None
    r = over / under
    middle = r if v22 == 0 else r - g * v12 / v22
    inside = v11 - 2 * r * v12 + r**2 * v22 - (0 if v22 == 0 else g * (v11 - v12**2 / v22))
    half = t / under * math.sqrt(max(inside, 0.0))
    return (middle - half) / (1 - g), (middle + half) / (1 - g)


def mean_above_p(values: np.ndarray, least_variance: float = 0.0) -> float:
    """Return the one-sided p that the mean is <= 0: the larger of Student's and Hall's (1992).

    With less than the least variance, values are spread around their mean to have it.
    """
    n = len(values)
    if n < MIN_TESTED:
        return 1.0
    variance = values.var(ddof=1)
    if variance < least_variance:
        if variance > 0:
            values = values.mean() + (values - values.mean()) * math.sqrt(least_variance / variance)
        else:  # half up, half down
            signs = np.where(np.arange(n) % 2, 1.0, -1.0)
            if n % 2:
                signs = signs + 1 / n
            values = values.mean() + signs * math.sqrt(least_variance / signs.var(ddof=1))
    variance = max(values.var(ddof=1), 1e-18)
    t = values.mean() / math.sqrt(variance / n)
    a = ((values - values.mean()) ** 3).mean() / variance**1.5 / math.sqrt(n)
    hall = t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6
    return float(max(stats.t.sf(t, n - 1), stats.t.sf(hall, n - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return adjusted p-values (Holm 1979): the largest of all steps up to each one's own."""

    def step(p: float) -> float:
        # of equal p the first has the most tests left
        return min(1.0, p * sum(q >= p for q in p_values))

    return [max(step(q) for q in p_values if q <= p) for p in p_values]
