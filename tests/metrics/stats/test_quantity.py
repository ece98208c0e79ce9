"""The parts of prompts in a set score are around the score, as its interval is."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.stats.intervals import jackknife
from metrics.stats.quantity import restricted, set_quantity, weighted


def squares(xs: np.ndarray) -> tuple[float, dict[str, float]]:
    """Return max(mean, 0)^2 of values and without each: a biased, clipped score."""
    left = {f"p{i}": max(float(np.delete(xs, i).mean()), 0.0) ** 2 for i in range(len(xs))}
    return max(float(xs.mean()), 0.0) ** 2, left


def test_the_mean_of_the_parts_is_the_score_also_where_it_is_clipped() -> None:
    xs = np.random.default_rng(0).normal(0.0, 1.0, 32)
    value, left = squares(xs - xs.mean() + 0.01)  # the jackknife's bias is many times the score
    quantity = set_quantity(value, left, n=32)
    parts = np.array(list(quantity.sums.values()))
    assert parts.mean() == pytest.approx(value, abs=1e-12)
    found = jackknife(value, left, n=32)
    assert found.low is not None and found.high is not None
    # one variance: that of the interval
    half = (found.high - found.low) / 2
    assert 2.0395 * parts.std(ddof=1) / np.sqrt(32) == pytest.approx(half, rel=1e-4)
    assert found.low < parts.mean() < found.high


def test_parts_of_an_unbiased_score_are_tukeys_pseudo_values() -> None:
    xs = np.random.default_rng(1).normal(2.0, 1.0, 12)
    left = {f"p{i}": float(np.delete(xs, i).mean()) for i in range(12)}
    quantity = set_quantity(float(xs.mean()), left, n=12)
    assert list(quantity.sums.values()) == pytest.approx(xs.tolist())
    some = restricted(quantity, {"p0", "p3"})
    assert some.value == pytest.approx((xs[0] + xs[3]) / 2)
    statistic = weighted(quantity, [f"p{i}" for i in range(12)])
    assert statistic(np.ones(12)) == pytest.approx(xs.mean())
