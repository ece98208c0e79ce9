"""Means over two crossed factors: trainings and prompts, each with a spread of its own.

A difference between two ways to train varies with the prompts that judge it and with the seeds
that it was trained with. More prompts make only the first part smaller.
"""

from __future__ import annotations

import math

import numpy as np

from metrics.stats.intervals import MIN_PROMPTS, Estimate

_ROUNDING = 1e-12


def crossed_mean(values_sp: np.ndarray, *, confidence: float = 0.95) -> Estimate:
    """Return the mean of values [seeds, prompts] with an interval for new seeds and new prompts.

    Random effects of seeds, prompts and both together: the variance of the mean is
    (MS_seeds + MS_prompts - MS_rest) / n of the analysis of variance, with the degrees of freedom
    of Satterthwaite (1946), but never below the part of prompts, nor with fewer degrees than the
    seeds alone have (a difference of parts that nearly cancel has next to none). With one seed the
    interval is of prompts alone. None below 12 prompts, as for all means.
    """
    n_prompts = values_sp.shape[1]
    if not values_sp.size:
        return Estimate(None, None, None, 0, n_prompts, "no values")
    mean = float(values_sp.mean())
    if n_prompts < MIN_PROMPTS:
        few = f"{n_prompts} prompts are too few for an interval (at least {MIN_PROMPTS})"
        return Estimate(mean, None, None, values_sp.size, n_prompts, few)
    if np.ptp(values_sp) <= _ROUNDING * max(1.0, abs(mean)):
        equal = "all values are equal: their spread cannot be told"
        return Estimate(mean, None, None, values_sp.size, n_prompts, equal)
    from scipy.special import stdtrit

    variance, degrees = _variance_of_mean(values_sp)
    half = float(stdtrit(degrees, 0.5 + confidence / 2)) * math.sqrt(variance)
    return Estimate(mean, mean - half, mean + half, values_sp.size, n_prompts)


def _variance_of_mean(values_sp: np.ndarray) -> tuple[float, float]:
    """Return the variance of the mean and its degrees of freedom."""
    n_seeds, n_prompts = values_sp.shape
    prompts_p, seeds_s = values_sp.mean(axis=0), values_sp.mean(axis=1)
    of_prompts = n_seeds * float(prompts_p.var(ddof=1)) / values_sp.size
    if n_seeds == 1:
        return of_prompts, n_prompts - 1
    of_seeds = n_prompts * float(seeds_s.var(ddof=1)) / values_sp.size
    rest_sp = values_sp - prompts_p - seeds_s[:, None] + values_sp.mean()
    n_rest = (n_seeds - 1) * (n_prompts - 1)
    of_rest = float((rest_sp**2).sum()) / n_rest / values_sp.size
    variance = of_prompts + of_seeds - of_rest
    if variance <= of_prompts:  # seeds differ by less than chance
        return of_prompts, n_prompts - 1
    parts = ((of_prompts, n_prompts - 1), (of_seeds, n_seeds - 1), (of_rest, n_rest))
    degrees = variance**2 / sum(part**2 / own for part, own in parts)
    return variance, max(degrees, min(n_seeds, n_prompts) - 1)
