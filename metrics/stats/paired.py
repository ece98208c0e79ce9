"""Two-sided tests of many paired comparisons at once.

A sample is the mean difference of each prompt of one comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from metrics.stats.intervals import (
    EXACT_FLIPS_CLUSTERS,
    MIN_CLUSTERS,
    MIN_PROMPTS,
    N_FLIPS,
    sign_flip_ps,
)
from metrics.stats.margin import mean_p

LEVEL = 0.05
_MAX_FLIPPED = 200
_PINELIS = 2 * math.e**3 / 9


def two_sided_ps(samples: Sequence[np.ndarray]) -> list[float | None]:
    """Return the two-sided p that the mean of each sample is 0; None below 12 prompts.

    The larger of Student's t with Hall's correction (`mean_p`) and of flipped signs, since t finds
    too much where few prompts change. Signs are flipped only where t is at most 0.05: a p above it
    is a lower bound.
    """
    found: list[float | None] = [None] * len(samples)
    for places, x_rn in _alike(enumerate(samples)):
        if x_rn.shape[1] >= MIN_PROMPTS:
            ps = 2 * np.minimum(mean_p(x_rn, 0.0), mean_p(-x_rn, 0.0))
            for place, p in zip(places, ps, strict=True):
                found[place] = min(float(p), 1.0)
    changed = ((i, samples[i][samples[i] != 0], p) for i, p in enumerate(found) if p is not None)
    tested = ((i, x) for i, x, p in changed if p <= LEVEL or len(x) < MIN_CLUSTERS)
    for places, x_rn in _alike(tested):
        for place, p in zip(places, _flip_ps(x_rn), strict=True):
            found[place] = min(max(found[place] or 0.0, float(p)), 1.0)
    return found


def _flip_ps(x_rn: np.ndarray) -> np.ndarray:
    """Return the two-sided p [r] of flipped signs of samples [r, n] without zeros.

    Random flips resolve 1 / (flips + 1): too coarse for Holm's correction of hundreds of
    comparisons. Below it serves a bound of the exact p, which holds for every sample:
    P(|S| >= x V) <= 2 c (1 - Phi(x)), c = 2 e^3 / 9, V^2 the sum of squares (Pinelis 1994).
    """
    from scipy.special import ndtr

    n = x_rn.shape[1]
    if n < MIN_CLUSTERS:
        return np.full(len(x_rn), 2.0 ** (1 - n))
    if n > _MAX_FLIPPED:
        return np.zeros(len(x_rn))
    if n <= EXACT_FLIPS_CLUSTERS:
        return sign_flip_ps(x_rn)
    x = np.abs(x_rn.sum(axis=1)) / np.sqrt((x_rn**2).sum(axis=1))
    bound = 2 * _PINELIS * ndtr(-x)
    is_coarse = bound >= 1 / (N_FLIPS + 1)
    bound[is_coarse] = sign_flip_ps(x_rn[is_coarse])
    return bound


def _alike(samples: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield the places of the samples of each length, with their values [r, n]."""
    by_length: dict[int, list[tuple[int, np.ndarray]]] = {}
    for place, values in samples:
        by_length.setdefault(len(values), []).append((place, values))
    for group in by_length.values():
        yield [place for place, _ in group], np.array([values for _, values in group], float)
