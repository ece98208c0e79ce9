"""Ratios of differences between arms: retention, and the place between floor and a ceiling.

The interval is Fieller's set (Fieller 1954): all r for which the mean of (a - b) - r (c - d) is not
told from 0, over prompts that all arms share. A ratio whose denominator is not clearly above 0 is
None with the reason; such a set would be unbounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from metrics.base import Better
from metrics.stats.intervals import MIN_PROMPTS, Estimate
from metrics.stats.quantity import Quantity, shared_prompts
from metrics.stats.rates import is_binary

NO_EFFECT = "plugin has no measurable effect over floor"
NO_CEILING = "the ceiling is not measurably above floor"


def retention(
    method: Quantity,
    *,
    base: Quantity,
    floor: Quantity,
    better: Better,
    confidence: float = 0.95,
) -> Estimate:
    """Return the share of the plugin's effect that is kept: (f - f_floor) / (f_base - f_floor).

    1 is as good as on the base model, 0 as the upgraded model without the plugin.
    """
    sign = 1.0 if better == "higher" else -1.0
    return _ratio((method, base, floor), sign=sign, nothing=NO_EFFECT, confidence=confidence)


def normalized(
    method: Quantity,
    *,
    ceiling: Quantity,
    floor: Quantity,
    better: Better,
    confidence: float = 0.95,
) -> Estimate:
    """Return the place between floor and ceiling: (f - f_floor) / (f_ceiling - f_floor)."""
    sign = 1.0 if better == "higher" else -1.0
    return _ratio((method, ceiling, floor), sign=sign, nothing=NO_CEILING, confidence=confidence)


def _ratio(
    arms: tuple[Quantity, Quantity, Quantity], *, sign: float, nothing: str, confidence: float
) -> Estimate:
    """Return (a - c) / (b - c) of three arms with Fieller's set."""
    names, n = shared_prompts(arms), min(q.n for q in arms)
    if names is None:
        return Estimate(None, None, None, n, 0, "the parts were measured on different prompts")
    n_prompts = len(names)
    if n_prompts < MIN_PROMPTS:
        have = "1 prompt is" if n_prompts == 1 else f"{n_prompts} prompts are"
        few = f"{have} too few for a ratio (at least {MIN_PROMPTS})"
        return Estimate(None, None, None, n, n_prompts, few)
    from scipy.special import stdtrit

    a, b, c = (sign * q.value for q in arms)
    over, under = a - c, b - c
    t = float(stdtrit(n_prompts - 1, 0.5 + confidence / 2))
    covariance = _covariance(arms, names) * t**2 / n_prompts
    # the denominator is above 0 where its own interval is: only then is the set an interval
    room = under**2 - covariance[1, 1]
    if under <= 0 or room <= 0:
        return Estimate(None, None, None, n, n_prompts, nothing)
    # (over - r under)^2 <= t^2 var(over - r under): a quadratic in r
    half = over * under - covariance[0, 1]
    spread = math.sqrt(max(half**2 - room * (over**2 - covariance[0, 0]), 0.0))
    value, low, high = over / under, (half - spread) / room, (half + spread) / room
    if high - low <= 1e-9:  # the arm is the ceiling itself
        return Estimate(value, None, None, n, n_prompts, "this arm is the reference itself")
    return Estimate(value, low, high, n, n_prompts)


def _covariance(arms: Sequence[Quantity], names: Sequence[str]) -> np.ndarray:
    """Return the covariance [2, 2] of a prompt's (a - c, b - c)."""
    a, b, c = (influence(arm, names) for arm in arms)
    found = np.atleast_2d(np.cov(np.stack([a - c, b - c])))
    # a rate of all or none has the spread that half a count on each side leaves it
    extra = [_half_count(arm, names) for arm in arms]
    return found + np.array(
        [[extra[0] + extra[2], extra[2]], [extra[2], extra[1] + extra[2]]], float
    )


def influence(arm: Quantity, names: Sequence[str]) -> np.ndarray:
    """Return each prompt's part in an arm's mean [n]: their mean is the value (the delta method).

    Prompts may differ in their numbers of images.
    """
    sums = np.array([arm.sums[name] for name in names])
    counts = np.array([arm.counts[name] for name in names])
    mean = sums.sum() / counts.sum()
    return arm.value + (sums - mean * counts) * len(names) / counts.sum()


def _half_count(arm: Quantity, names: Sequence[str]) -> float:
    means = [arm.sums[name] / arm.counts[name] for name in names]
    if len(set(means)) > 1 or not is_binary(means):
        return 0.0
    rate = (sum(means) + 0.5) / (len(means) + 1)
    return rate * (1 - rate)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other point exceeds in both coordinates, from left to right."""
    # from the right to the left, a point is on the front if it is above all before it
    front: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front[::-1]
