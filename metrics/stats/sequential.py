"""A planned group-sequential test: early looks without raising the error rate.

One-sided, at planned shares of the data (looks), with the power family of error spending: by share
t, alpha t^2 is spent (Kim and DeMets 1987; Jennison and Turnbull 2000, section 7.2.2). The looks'
statistics have the canonical joint distribution (ibid., section 3.1), integrated as in Armitage,
McPherson and Rowe 1969.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

SPENDING_POWER = 2.0
_N_NODES = 96
_REACH = 8.5  # standard deviations that the integrals reach below 0
_ALPHAS = np.logspace(-9, np.log10(0.5), 120)
_LEAST_P = 1e-12


def spent(alpha: float, share: float) -> float:
    """Return the error that may be spent by a share of the planned data."""
    return alpha * share**SPENDING_POWER


@lru_cache(maxsize=4096)
def bounds(shares: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """Return upper bounds of the looks' z values: under no effect any is crossed with alpha.

    `shares` increase to at most 1, the share of the planned data at each look.
    """
    from scipy.optimize import root_scalar
    from scipy.special import ndtr

    found: list[float] = []
    nodes, density = np.zeros(1), np.ones(1)  # where the sum may be, with its weight
    before, step_spent = 0.0, 0.0
    for share in shares:
        # increment of the sum from look to look: variance share - before (Brownian motion)
        root = np.sqrt(share - before)
        to_spend = spent(alpha, share) - step_spent

        def excess(
            z: float,
            *,
            at: float = np.sqrt(share),
            nodes: np.ndarray = nodes,
            density: np.ndarray = density,
            root: float = root,
            to_spend: float = to_spend,
        ) -> float:
            return float(density @ ndtr((nodes - z * at) / root)) - to_spend

        # the bound at which the chance to cross now equals the error left to spend
        bracket = (-_REACH, 3 * _REACH)
        bound = float(root_scalar(excess, bracket=bracket, method="brentq", xtol=1e-10).root)
        found.append(bound)
        # density of the sum below the bound: convolution of the last one with the increment
        new_nodes, weights = _legendre(-_REACH * np.sqrt(share), bound * np.sqrt(share))
        steps = (new_nodes[:, None] - nodes) / root
        kernel = np.exp(-(steps**2) / 2) / (root * np.sqrt(2 * np.pi))
        nodes, density = new_nodes, weights * (kernel @ density)
        before, step_spent = share, spent(alpha, share)
    return tuple(found)


def running_p(z: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return by look [..., K] the least level at which the test of z [..., K] has rejected so far.

    A p-value that stays valid whenever one stops (Liu and Anderson 2008); it never rises from look
    to look. `shares` are those of the looks taken. A look with NaN has too few data, whatever they
    are: it is not one of the design, so it spends no error.
    """
    levels = np.ones(z.shape)
    informative = [k for k in range(z.shape[-1]) if not np.isnan(z[..., k]).any()]
    design = [shares[k] for k in informative]
    for look, k in enumerate(informative):
        levels[..., k] = look_p(z[..., k], design, look=look)
    return np.minimum.accumulate(levels, axis=-1)


def conditional_power(z: np.ndarray, share: float, *, alpha: float) -> np.ndarray:
    """Return the chance that a test with statistic z at a share of the data rejects at the end.

    Under the current trend: the final statistic is normal around z / sqrt(share) with variance
    1 - share (Lan and Wittes 1988, "The B-value").
    """
    from scipy.special import ndtr

    return ndtr((z / math.sqrt(share) - z_of(alpha)) / math.sqrt(1 - share))


def look_p(z: np.ndarray, shares: Sequence[float], *, look: int) -> np.ndarray:
    """Return the level at which the test's bound at one look equals z; 1 above a level of .5."""
    if tuple(shares) == (1.0,):
        from scipy.special import ndtr

        return np.maximum(ndtr(-z), _LEAST_P)
    # bounds fall with the level: interpolate log alpha between tabulated bounds
    at = _table(tuple(shares))[look]
    return np.exp(np.interp(z, at[::-1], _LOG_ALPHAS[::-1], left=0.0))


def z_of(p: float) -> float:
    """Return the standard normal value that is exceeded with chance p."""
    from scipy.special import ndtri

    return float(-ndtri(min(max(p, _LEAST_P), 1 - _LEAST_P)))


_LOG_ALPHAS = np.log(_ALPHAS)


@lru_cache(maxsize=64)
def _table(shares: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    """Return bounds by look [K][A] for every level of `_ALPHAS`."""
    by_alpha = np.array([bounds(shares, float(alpha)) for alpha in _ALPHAS])
    return tuple(by_alpha.T)


def _legendre(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of the Gauss-Legendre rule on an interval."""
    nodes, weights = _rule()
    half = (high - low) / 2
    return low + half * (nodes + 1), half * weights


@lru_cache(maxsize=1)
def _rule() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(_N_NODES)
