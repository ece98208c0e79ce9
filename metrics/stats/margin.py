"""Non-inferiority of paired scores at a margin: p-values and how many prompts decide.

One value a prompt, the mean difference of its images, positive where the candidate is better.
Two one-sided tests: of a loss at all (difference 0 is rejected), and of a loss within the margin
(difference -margin is rejected).
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
    """Return the one-sided p that the mean difference is >= 0, by flipping prompts' signs.

    Exact where baseline and candidate are exchangeable, whatever the distribution. None below the
    least number of prompts.
    """
    names = [f"{i:09}" for i in range(len(differences))]
    return sign_flip_p(differences.tolist(), names, seed=seed, side="less", n_flips=n_flips)


def within_margin_p(
    differences: np.ndarray, margin: float, *, step: float = 0.0, n_per_prompt: float = 1.0
) -> float | None:
    """Return the one-sided p that the mean difference is <= -margin: Student's t over prompts.

    The larger of the plain p and that of Hall's transformation (Hall 1992, "On the removal of
    skewness by transformation"): rare large losses make the plain one too small. The variance is
    at least what scores in steps of `step` have when their mean is -margin (`least_variance`):
    without that floor, a few prompts without any change would exclude rare losses.
    None below the least number of prompts.
    """
    if len(differences) < MIN_CLUSTERS:
        return None
    floor = least_variance(margin, step=step, n_per_prompt=n_per_prompt)
    return float(_margin_p(differences[None], margin, floor)[0])


def _margin_p(x_rn: np.ndarray, margin: float, floor: float) -> np.ndarray:
    """Return `within_margin_p` of many samples [r, n] at once: p-values [r]."""
    from scipy.special import stdtr

    # Student's t of mean + margin, with a floor under the variance
    n, mean = x_rn.shape[1], x_rn.mean(axis=1)
    variance = x_rn.var(axis=1, ddof=1).clip(max(floor, 1e-18))
    t = np.sqrt(n / variance) * (mean + margin)
    # Hall 1992: t + a t^2 / 3 + a^2 t^3 / 27 + a / 6, a = skewness / sqrt(n)
    skewness = ((x_rn - mean[:, None]) ** 3).mean(axis=1) / variance**1.5
    a = skewness / math.sqrt(n)
    transformed = t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6
    # the smaller statistic has the larger p
    return stdtr(n - 1, -np.minimum(t, transformed))


def least_variance(margin: float, *, step: float, n_per_prompt: float = 1.0) -> float:
    """Return the least variance of a prompt's mean if differences are multiples of a step.

    A variable on the lattice {0, +-h, ...} with mean -d, 0 < d < h, varies by d (h - d) at least,
    which only losses of one step reach; images of a prompt are taken as independent.
    """
    return margin * (step - margin) / n_per_prompt if step > margin else 0.0


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
            -ndtri(_margin_p(x[drawn[len(x)]], p.margin, p.floor).clip(1e-300))
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
