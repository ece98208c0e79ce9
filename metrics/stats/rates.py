"""Intervals of rates: one rate over whole prompts, and the difference of two rates of pairs.

Images of one prompt are alike, so a rate has the effective number of images that its prompts give
(Kish's design effect), and never more prompts than there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

_NORMAL = NormalDist()
_EDGE = 1e-12


def is_binary(values: Sequence[float]) -> bool:
    """Return whether all values are 0 or 1."""
    return len(values) > 0 and set(values) <= {0.0, 1.0}


def rate_interval(rate: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a rate of `n` independent values (Clopper and Pearson 1934).

    Wilson's covers .91 at n = 12 and a rate of .75; this one at least its confidence. `n` may be a
    fraction, as an effective number is.
    """
    from scipy.special import betaincinv

    tail, hits = (1 - confidence) / 2, rate * n
    low = 0.0 if rate <= 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if rate >= 1 else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return low, high


def clustered_rate_interval(
    values: Sequence[float], clusters: Sequence[str], *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the exact interval of a rate of zeros and ones at its effective number of images."""
    n = effective_number(values, _labels(clusters))
    return rate_interval(float(np.mean(values)), n, confidence=confidence)


def clustered_pair_interval(
    differences: Sequence[float], clusters: Sequence[str], *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return Tango's interval of differences -1, 0 and 1 at their effective number of pairs."""
    x = np.asarray(differences, float)
    n = effective_number(x, _labels(clusters))
    gained, lost = float((x > 0).mean()) * n, float((x < 0).mean()) * n
    return paired_rate_interval(gained, lost, n, confidence=confidence)


def _labels(clusters: Sequence[str]) -> np.ndarray:
    return np.unique(np.asarray(clusters, dtype=str), return_inverse=True)[1]


def effective_number(values: Sequence[float] | np.ndarray, labels: np.ndarray) -> float:
    """Return how many independent images tell as much as these, between prompts and images.

    n / (1 + (m - 1) rho), m images a prompt; rho is the intraclass correlation by analysis of
    variance (Donner and Klar 2000), 1 where the rate is 0 or 1 and it cannot be told.
    """
    x = np.asarray(values, float)
    counts = np.bincount(labels).astype(float)
    n, n_clusters = len(x), len(counts)
    if n == n_clusters or n_clusters < 2:
        return float(n_clusters)
    means = np.bincount(labels, weights=x) / counts
    within = float(((x - means[labels]) ** 2).sum()) / (n - n_clusters)
    between = float((counts * (means - x.mean()) ** 2).sum()) / (n_clusters - 1)
    size = (n - float((counts**2).sum()) / n) / (n_clusters - 1)
    total = between + (size - 1) * within
    rho = 1.0 if total <= 0 else min(max((between - within) / total, 0.0), 1.0)
    return n / (1 + (n / n_clusters - 1) * rho)


def paired_rate_interval(
    gained: float, lost: float, n: float, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return Tango's score interval of the difference of two rates of the same `n` pairs.

    `gained` pairs are 1 in the first arm alone, `lost` in the second alone; the difference is
    (gained - lost) / n. Source: Tango 1998, Statistics in Medicine 17, 891-908.
    """
    z = _NORMAL.inv_cdf((1 + confidence) / 2)
    point = (gained - lost) / n

    def beyond(difference: float, sign: float) -> float:
        return _tango_score(difference, gained, lost, n) - sign * z

    # the score falls from +inf at -1 to -inf at 1 and is 0 at the point
    low = -1.0 if point <= -1 + _EDGE else _root(lambda d: beyond(d, 1.0), -1.0, point)
    high = 1.0 if point >= 1 - _EDGE else _root(lambda d: beyond(d, -1.0), point, 1.0)
    return low, high


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    low, high = low + 1e-9, high - 1e-9
    if function(low) * function(high) > 0:  # no sign change inside: the bound is the end
        return low if abs(function(low)) < abs(function(high)) else high
    root: Any = brentq(function, low, high, xtol=1e-9)
    return float(root)


def _tango_score(difference: float, gained: float, lost: float, n: float) -> float:
    """Return (b - c - n d) / sqrt(n (2 q + d (1 - d))), q the restricted estimate of p21."""
    # q solves 2n q^2 + B q + C = 0 (Tango 1998, eq. 8); b gained, c lost, d the difference
    linear = -gained - lost + (2 * n - gained + lost) * difference
    constant = -lost * difference * (1 - difference)
    root = math.sqrt(max(linear * linear - 8 * n * constant, 0.0))
    q = max((root - linear) / (4 * n), 0.0)
    variance = n * (2 * q + difference * (1 - difference))
    numerator = gained - lost - n * difference
    if variance <= 0:
        return 0.0 if numerator == 0 else math.copysign(math.inf, numerator)
    return numerator / math.sqrt(variance)
