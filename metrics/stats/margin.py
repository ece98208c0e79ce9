"""Non-inferiority of paired scores at a margin: p-values and how many prompts decide.

One value a prompt, the mean difference of its images, positive where the candidate is better.
One-sided tests of the mean: of a loss at all (difference 0 is rejected), of a loss within the
margin (difference -margin is rejected) and of a loss beyond it; and of single prompts: that more
of them collapse than may.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from metrics.stats.intervals import MIN_CLUSTERS, sign_flip_p
from metrics.stats.sequential import look_p, z_of

N_FLIPS = 19_999
_N_DRAWS = 4000
_MAX_PROMPTS = 1_000_000
_N_RESAMPLES, _MAX_RESAMPLED = 1000, 3000


def loss_p(differences: np.ndarray, *, seed: int = 0, n_flips: int = N_FLIPS) -> float | None:
    """Return the one-sided p that the mean difference is >= 0.

    The larger of two: flipping prompts' signs, which is exact where baseline and candidate are
    exchangeable, and Hall's t (`within_margin_p`), since skewed differences of mean 0 are not.
    None below the least number of prompts.
    """
    names = [f"{i:09}" for i in range(len(differences))]
    p = sign_flip_p(differences.tolist(), names, seed=seed, side="less", n_flips=n_flips)
    return None if p is None else max(p, float(mean_p(-differences[None], 0.0)[0]))


def within_margin_p(
    differences: np.ndarray, margin: float, *, step: float = 0.0, spread: float = 0.0
) -> float | None:
    """Return the one-sided p that the mean difference is <= -margin, by `mean_p`.

    The variance is at least `floor_of`: without it, a few prompts without any change would exclude
    rare losses. None below the least number of prompts.
    """
    if len(differences) < MIN_CLUSTERS:
        return None
    floor = floor_of(margin, step=step, spread=spread)
    return float(mean_p(differences[None], -margin, floor=floor)[0])


def mean_p(x_rn: np.ndarray, at: float, *, floor: float = 0.0) -> np.ndarray:
    """Return the one-sided p [r] that the mean of each sample [r, n] is <= `at`.

    Student's t over prompts with a floor under the variance. The larger of the plain p and that of
    Hall's transformation (Hall 1992, "On the removal of skewness by transformation"): rare large
    losses make the plain one too small.
    """
    from scipy.special import stdtr

    n, mean = x_rn.shape[1], x_rn.mean(axis=1)
    variance = x_rn.var(axis=1, ddof=1).clip(max(floor, 1e-18))
    t = np.sqrt(n / variance) * (mean - at)
    # Hall 1992: t + a t^2 / 3 + a^2 t^3 / 27 + a / 6, a = skewness / sqrt(n)
    skewness = ((x_rn - mean[:, None]) ** 3).mean(axis=1) / variance**1.5
    a = skewness / math.sqrt(n)
    transformed = t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6
    # the smaller statistic has the larger p
    return stdtr(n - 1, -np.minimum(t, transformed))


def floor_of(margin: float, *, step: float = 0.0, spread: float = 0.0) -> float:
    """Return the variance that a prompt's difference has at least.

    That of scores in steps (`least_variance`), or the square of the least standard deviation that
    is known from earlier pairs of mappers.
    """
    return max(least_variance(margin, step=step), spread**2)


def least_variance(margin: float, *, step: float) -> float:
    """Return the least variance of a prompt's mean if differences are multiples of a step.

    A variable on the lattice {0, +-h, ...} with mean -d, 0 < d < h, varies by d (h - d) at least,
    which only losses of one step reach. Images of a prompt may fail together, so their number does
    not divide it.
    """
    return margin * (step - margin) if step > margin else 0.0


def collapse_p(
    n_collapsed: np.ndarray, n: int, max_rate: float, *, n_gained: np.ndarray | int = 0
) -> np.ndarray:
    """Return the exact one-sided p that the rate of collapsed prompts is at most tolerated.

    That is `max_rate`; where as large gains were seen, at least (gains + 1) / n, since mappers that
    are equally good move single prompts both ways.
    """
    from scipy.special import bdtrc

    gained = np.where(np.asarray(n_gained) > 0, (np.asarray(n_gained) + 1) / n, 0.0)
    rates = np.maximum(max_rate, gained).clip(max=1.0)
    # P(X >= k), X binomial
    return np.where(n_collapsed > 0, bdtrc(np.maximum(n_collapsed, 1) - 1.0, n, rates), 1.0)


def highest_rate(n_collapsed: int, n: int, alpha: float) -> float:
    """Return the highest rate of collapses that n prompts do not exclude at the level.

    The upper end of Clopper and Pearson's one-sided interval (1934).
    """
    from scipy.special import betaincinv

    if n_collapsed >= n:
        return 1.0
    return float(betaincinv(n_collapsed + 1, n - n_collapsed, 1 - alpha))


def step_of(values: np.ndarray) -> float:
    """Return the least gap between the values that scores take; 1 where all are equal.

    0 stands for scores that vary freely: more different values than half of the scores.
    """
    # rounded, since equal scores of other images may differ in the last bits
    distinct = np.unique(np.round(values, 9))
    if len(distinct) == 1:
        return 1.0
    return 0.0 if len(distinct) > len(values) / 2 else float(np.diff(distinct).min())


def prompts_to_decide(spread: float, *, effect: float, alpha: float, power: float) -> int:
    """Return the prompts at which a one-sided test of the effect has the power (normal theory).

    n = ((z_alpha + z_power) s / effect)^2.
    """
    if effect <= 0:
        raise ValueError(f"the effect is {effect}: it must be above 0")
    n = ((z_of(alpha) + z_of(1 - power)) * spread / effect) ** 2
    return min(max(math.ceil(n), MIN_CLUSTERS), _MAX_PROMPTS)


@lru_cache(maxsize=256)
def planned_prompts(
    effects: tuple[float, ...], *, alpha: float, power: float, shares: tuple[float, ...]
) -> int:
    """Return the prompts at which all tests pass with the power, if there is no difference.

    `effects` are margin / spread of each test, taken as independent; Holm's correction and the
    looks are counted in.
    """
    # a test's z statistic at n prompts: standard normal around effect sqrt(n)
    noise = np.random.default_rng(0).standard_normal((_N_DRAWS, len(effects)))

    def chance(n: int) -> float:
        return _all_pass(noise + np.asarray(effects) * math.sqrt(n), alpha, shares)

    return _least(chance, power, MIN_CLUSTERS)


@dataclass(frozen=True)
class Pilot:
    """Differences [n] of the prompts seen so far under one test, and what its margin test needs."""

    x: np.ndarray
    margin: float
    floor: float


def planned_from(
    pilots: Sequence[Pilot], *, alpha: float, power: float, shares: tuple[float, ...], least: int
) -> int:
    """Return `planned_prompts` for differences as measured: skewed, in steps, correlated.

    Prompts are drawn from the pilots with replacement, with their means taken away; pilots of
    equal length hold the same prompts. Not below `least`; where that is above some thousands, means
    are normal enough and `least` is the answer.
    """
    if least > _MAX_RESAMPLED:
        return least
    from scipy.special import ndtri

    # without their means the pilots follow the hypothesis of no difference
    centered = [pilot.x - pilot.x.mean() for pilot in pilots]
    lengths = {len(x) for x in centered}

    def chance(n: int) -> float:
        rng = np.random.default_rng(0)
        # equal lengths share their draws, so that correlated tests stay correlated
        drawn = {length: rng.integers(0, length, (_N_RESAMPLES, n)) for length in sorted(lengths)}
        z = [
            -ndtri(mean_p(x[drawn[len(x)]], -p.margin, floor=p.floor).clip(1e-300))
            for x, p in zip(centered, pilots, strict=True)
        ]
        return _all_pass(np.stack(z, axis=1), alpha, shares)

    return _least(chance, power, least, most=2 * _MAX_RESAMPLED)


def _all_pass(z_rt: np.ndarray, alpha: float, shares: tuple[float, ...]) -> float:
    """Return the share of draws in which Holm's correction lets all tests pass at the last look."""
    # Holm: the k-th smallest p of m against alpha / (m - k + 1)
    ordered = np.sort(look_p(z_rt, shares, look=len(shares) - 1), axis=1)
    return float((ordered * np.arange(z_rt.shape[1], 0, -1) <= alpha).all(axis=1).mean())


def _least(
    chance: Callable[[int], float], power: float, least: int, most: int = _MAX_PROMPTS
) -> int:
    """Return the least number of prompts with that power, to 1 %; about `most` if none has it."""
    # double until the power is reached, then bisect
    low, high = least - 1, least
    while chance(high) < power and high < most:
        low, high = high, 2 * high
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= power else (middle, high)
    return high
