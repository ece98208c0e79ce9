"""Non-inferiority of paired scores at a margin: p-values and how many prompts decide.

One value a prompt, the mean difference of its images, positive where the candidate is better.
Two one-sided questions: is there a loss at all (difference 0 refuted), and is any loss within the
margin (difference -margin refuted)? Imports no torch.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from metrics.stats import MIN_CLUSTERS, sign_flip_p
from metrics.stats_sequential import look_p, z_of

N_FLIPS = 19_999
_N_DRAWS = 4000
_MAX_PROMPTS = 1_000_000


def loss_p(differences: np.ndarray, *, seed: int = 0, n_flips: int = N_FLIPS) -> float | None:
    """One-sided p that the mean difference is 0 or more, by flipping the signs of prompts.

    Exact where baseline and candidate are exchangeable, whatever the distribution. None below the
    least number of prompts.
    """
    names = [f"{i:09}" for i in range(len(differences))]
    return sign_flip_p(differences.tolist(), names, seed=seed, side="less", n_flips=n_flips)


def within_margin_p(
    differences: np.ndarray, margin: float, *, step: float = 0.0, n_per_prompt: float = 1.0
) -> float | None:
    """One-sided p that the mean difference is -margin or less: Student's t over prompts.

    The larger of the plain p and that of Hall's transformation (Hall 1992, "On the removal of
    skewness by transformation"): rare large losses make the plain one too small. The variance is
    at least what scores in steps of `step` have when their mean is -margin (`least_variance`):
    without that floor, a few prompts without any change would "prove" that rare losses are none.
    None below the least number of prompts.
    """
    from scipy.special import stdtr

    n = len(differences)
    if n < MIN_CLUSTERS:
        return None
    floor = least_variance(margin, step=step, n_per_prompt=n_per_prompt)
    variance = max(float(differences.var(ddof=1)), floor, 1e-18)
    mean = float(differences.mean())
    t = math.sqrt(n / variance) * (mean + margin)
    skewness = float(((differences - mean) ** 3).mean()) / variance**1.5
    a = skewness / math.sqrt(n)
    transformed = t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6
    return float(stdtr(n - 1, -min(t, transformed)))


def least_variance(margin: float, *, step: float, n_per_prompt: float = 1.0) -> float:
    """Least variance of a prompt's mean difference if single differences are multiples of a step.

    A variable on the lattice {0, +-h, ...} with mean -d, 0 < d < h, varies by d (h - d) at least,
    which only losses of one step reach; images of a prompt are taken as independent.
    """
    return margin * (step - margin) / n_per_prompt if step > margin else 0.0


def step_of(values: np.ndarray) -> float:
    """The least gap between the values that scores take; 1 where all are equal.

    0 stands for scores that vary freely: more different values than half of the scores.
    """
    distinct = np.unique(np.round(values, 9))
    if len(distinct) == 1:
        return 1.0
    return 0.0 if len(distinct) > len(values) / 2 else float(np.diff(distinct).min())


def prompts_to_decide(spread: float, *, effect: float, alpha: float, power: float) -> int:
    """Prompts at which a one-sided test of an effect of this size has the power: normal theory.

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
    """Prompts at which all tests together pass with the power, if there is no difference.

    `effects` are margin / spread of each test, taken as independent; Holm's correction and the
    looks are counted in.
    """
    noise = np.random.default_rng(0).standard_normal((_N_DRAWS, len(effects)))

    def chance(n: int) -> float:
        z = noise + np.asarray(effects) * math.sqrt(n)
        ordered = np.sort(look_p(z, shares, look=len(shares) - 1), axis=1)
        return float((ordered * np.arange(len(effects), 0, -1) <= alpha).all(axis=1).mean())

    low, high = MIN_CLUSTERS - 1, MIN_CLUSTERS
    while chance(high) < power and high < _MAX_PROMPTS:
        low, high = high, 2 * high
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= power else (middle, high)
    return high
