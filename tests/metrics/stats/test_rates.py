"""Intervals of rates cover, are never empty, and are those of the published examples."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.stats.rates import (
    clustered_rate_interval,
    effective_number,
    paired_rate_interval,
    rate_interval,
)


def test_the_exact_interval_is_that_of_published_examples() -> None:
    # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 5
    assert rate_interval(81 / 263, 263) == pytest.approx((0.2527, 0.3676), abs=1e-4)
    assert rate_interval(0.0, 20) == pytest.approx((0.0, 0.1684), abs=1e-4)


def test_tangos_interval_is_that_of_a_published_example() -> None:
    # Tango 1998: 44 pairs, 1 against 0 discordant; Newcombe 1998 quotes the score interval
    low, high = paired_rate_interval(0, 1, 44)
    assert low == pytest.approx(-0.118, abs=2e-3) and high == pytest.approx(0.059, abs=2e-3)


def test_the_interval_of_equal_arms_holds_zero_and_mirrors() -> None:
    for n in (12, 24, 60):
        low, high = paired_rate_interval(3, 3, n)
        assert low == pytest.approx(-high, abs=1e-6) and high > 0
        low, high = paired_rate_interval(0, 0, n)
        assert low < 0 < high
        assert paired_rate_interval(5, 1, n)[0] == pytest.approx(
            -paired_rate_interval(1, 5, n)[1], abs=1e-6
        )


def test_images_of_one_prompt_that_are_alike_count_once() -> None:
    labels = np.repeat(np.arange(10), 4)
    alike = np.repeat([1.0, 0, 1, 1, 0, 1, 0, 0, 1, 1], 4)
    assert effective_number(alike, labels) == pytest.approx(10)
    mixed = np.tile([1.0, 0, 1, 0], 10)
    assert effective_number(mixed, labels) == pytest.approx(40)
    assert effective_number(np.ones(40), labels) == pytest.approx(10)
    low, high = clustered_rate_interval([1.0] * 12, [str(i) for i in range(12)])
    assert high == 1.0 and low < 0.8


@pytest.mark.parametrize("n", [12, 24, 60])
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.75, 0.95])
def test_a_rates_interval_covers(n: int, rate: float) -> None:
    draws = np.random.default_rng(1).binomial(n, rate, 4000) / n
    bounds = {value: rate_interval(value, n) for value in np.unique(draws)}
    covered = np.mean([bounds[v][0] <= rate <= bounds[v][1] for v in draws])
    assert 0.93 <= covered <= 0.995  # discrete: above the nominal level at small n


@pytest.mark.parametrize("n", [12, 24, 60])
def test_a_difference_of_equal_rates_covers_zero(n: int) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 1500, n)) < 0.75
    gained, lost = (a & ~b).sum(1), (b & ~a).sum(1)
    known = {pair: paired_rate_interval(*pair, n) for pair in set(zip(gained, lost, strict=True))}
    covered = np.mean([known[p][0] <= 0 <= known[p][1] for p in zip(gained, lost, strict=True)])
    assert 0.93 <= covered <= 0.99
