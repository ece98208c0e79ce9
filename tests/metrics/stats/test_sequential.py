"""The planned group-sequential test, against published bounds and simulated looks."""

import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal

from metrics.stats import sequential as stats_sequential
from metrics.stats.sequential import (
    bounds,
    conditional_power,
    look_p,
    running_p,
    spent,
    z_of,
)

SHARES = (0.4, 0.7, 1.0)


def sequential_p(z_values: list[float], shares: tuple[float, ...]) -> float:
    """Return the p-value after the last of some looks."""
    return float(running_p(np.array(z_values), shares)[-1])


def test_bounds_equal_the_published_ones(monkeypatch: pytest.MonkeyPatch):
    # Lan and DeMets' spending like O'Brien and Fleming, five equal looks, two-sided 5 %:
    # Jennison and Turnbull 2000 and every group-sequential program give 4.877 ... 2.031
    def like_obrien_fleming(alpha: float, share: float) -> float:
        return 2 * (1 - float(ndtr(-ndtri(alpha / 2) / math.sqrt(share))))

    monkeypatch.setattr(stats_sequential, "spent", like_obrien_fleming)
    bounds.cache_clear()
    found = bounds((0.2, 0.4, 0.6, 0.8, 1.0), 0.025)
    bounds.cache_clear()
    assert found == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=0.001)


def test_bounds_spend_what_was_planned_by_scipys_normal_distribution():
    found, before = bounds(SHARES, 0.05), 0.0
    for k in range(1, 4):
        shares = np.array(SHARES[:k])
        low, high = np.minimum.outer(shares, shares), np.maximum.outer(shares, shares)
        joint = multivariate_normal(np.zeros(k), np.sqrt(low / high), allow_singular=True)
        stays_below = joint.cdf(np.array(found[:k]), rng=np.random.default_rng(0))
        assert 1 - stays_below == pytest.approx(spent(0.05, shares[-1]), abs=3e-5)
        assert spent(0.05, shares[-1]) > before
        before = spent(0.05, shares[-1])


def test_a_single_look_is_the_plain_test():
    assert bounds((1.0,), 0.05)[0] == pytest.approx(1.6449, abs=1e-4)
    assert sequential_p([1.6449], (1.0,)) == pytest.approx(0.05, abs=1e-5)


def test_the_p_value_is_the_level_whose_bound_is_met():
    for alpha in (0.001, 0.01, 0.05, 0.2):
        found = bounds(SHARES, alpha)
        for look in range(3):
            p = float(look_p(np.array(found[look]), SHARES, look=look))
            assert p == pytest.approx(alpha, rel=2e-3)


def test_the_p_value_never_rises_from_look_to_look():
    z = [2.5, -3.0, 1.0]
    values = [sequential_p(z[:k], SHARES[:k]) for k in (1, 2, 3)]
    assert values[0] == values[1] == values[2] < 0.05


def test_bounds_of_the_looks_taken_need_no_later_looks():
    assert bounds(SHARES, 0.05)[:2] == pytest.approx(bounds(SHARES[:2], 0.05))


def test_looking_three_times_keeps_the_error_rate():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((20_000, 100))
    sums = values.cumsum(axis=1)
    z = np.stack([sums[:, n - 1] / math.sqrt(n) for n in (40, 70, 100)], axis=1)
    p = np.stack([look_p(z[:, k], SHARES, look=k) for k in range(3)], axis=1).min(axis=1)
    naive = (ndtr(-z) <= 0.05).any(axis=1).mean()
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.005)
    assert (p <= 0.01).mean() == pytest.approx(0.01, abs=0.0025)
    assert naive > 0.08


def test_looks_that_tell_nothing_do_not_count():
    assert sequential_p([math.nan, math.nan], SHARES[:2]) == 1.0
    assert sequential_p([math.nan, 2.5], SHARES[:2]) < 0.05


def test_looks_that_are_too_small_to_tell_spend_no_error():
    assert sequential_p([math.nan, math.nan, 1.6449], SHARES) == pytest.approx(0.05, abs=1e-4)
    rng = np.random.default_rng(3)
    sums = rng.standard_normal((20_000, 100)).cumsum(axis=1)
    z = np.stack([sums[:, n - 1] / math.sqrt(n) for n in (40, 70, 100)], axis=1)
    z[:, 0] = np.nan
    assert (running_p(z, SHARES)[:, -1] <= 0.05).mean() == pytest.approx(0.05, abs=0.005)


def test_conditional_power_is_the_share_of_continuations_that_reject():
    rng = np.random.default_rng(4)
    mean = 0.1
    first, rest = rng.normal(mean, size=40), rng.normal(mean, size=(20_000, 60))
    first += mean - first.mean()
    z = mean * math.sqrt(40)
    final = (first.sum() + rest.sum(axis=1)) / math.sqrt(100)
    found = conditional_power(np.array(z), 0.4, alpha=0.05)
    assert float(found) == pytest.approx((final >= 1.6449).mean(), abs=0.015)


def test_z_values_are_those_of_the_p():
    assert z_of(0.05) == pytest.approx(1.6449, abs=1e-4)
    assert math.isfinite(z_of(0.0)) and math.isfinite(z_of(1.0))
