"""Means over trainings and prompts."""

import numpy as np
import pytest

from metrics.stats import clustered_mean
from metrics.stats.crossed import crossed_mean


def world(rng: np.random.Generator, n_seeds: int, spread: float) -> np.ndarray:
    seeds = rng.normal(0, spread, (n_seeds, 1))
    return seeds + rng.normal(0, 1, 24) + rng.normal(0, 0.5, (n_seeds, 24))


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_intervals_cover_the_truth_of_new_seeds_and_prompts(spread: float) -> None:
    rng = np.random.default_rng(0)
    found = [crossed_mean(world(rng, 3, spread)) for _ in range(600)]
    covered = np.mean([e.low <= 0 <= e.high for e in found if e.low is not None and e.high])
    assert 0.92 <= covered <= 0.99


def test_an_interval_of_prompts_alone_does_not_cover_where_seeds_differ() -> None:
    rng = np.random.default_rng(0)
    means = [world(rng, 3, 1.0).mean(axis=0) for _ in range(200)]
    names = [str(i) for i in range(24)]
    found = [clustered_mean([*map(float, m)], names, n_resamples=400) for m in means]
    assert np.mean([e.low <= 0 <= e.high for e in found if e.low is not None and e.high]) < 0.8


def test_one_seed_has_the_interval_of_its_prompts() -> None:
    values = np.arange(16.0)[None]
    found = crossed_mean(values)
    assert found.value == 7.5 and found.low is not None
    # Student's t, 15 degrees
    assert found.low == pytest.approx(7.5 - 2.13145 * values.std(ddof=1) / 4, abs=1e-4)


@pytest.mark.parametrize("values", [np.ones((3, 24)), np.zeros((2, 5)), np.zeros((0, 24))])
def test_what_cannot_be_told_has_no_interval_and_a_reason(values: np.ndarray) -> None:
    found = crossed_mean(values)
    assert found.low is None and found.high is None and found.reason


def test_parts_that_nearly_cancel_give_no_endless_interval() -> None:
    widths = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        found = crossed_mean(rng.normal(0, 0.1, (3, 24)) + rng.normal(0, 0.02, (3, 1)))
        assert found.low is not None and found.high is not None
        widths.append(found.high - found.low)
    assert max(widths) < 1
