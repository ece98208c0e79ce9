"""The sliced distance against assignments of least cost, projection by projection."""

import math

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from metrics.sets.sliced import SCALE_PER_DIMENSION, sliced_distance, sliced_leave_one_out

D = 5


def rows(n: int, seed: int, step: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(step, 1, (n, D))


def directions(n: int) -> np.ndarray:
    """Draw the documented ones: standard normal rows of seed 0, scaled to length 1."""
    drawn = np.random.default_rng(0).standard_normal((n, D))
    return drawn / np.sqrt((drawn**2).sum(axis=1))[:, None]


def cheapest(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared 2-Wasserstein distance of numbers by optimal transport itself."""
    size = math.lcm(len(a), len(b))
    a, b = np.repeat(a, size // len(a)), np.repeat(b, size // len(b))
    cost = (a[:, None] - b[None]) ** 2
    return float(cost[linear_sum_assignment(cost)].mean())


@pytest.mark.parametrize("n", [9, 6])
def test_it_is_optimal_transport_along_every_direction(n: int) -> None:
    x, y = rows(9, 1), rows(n, 2, step=0.5)
    found = sliced_distance(x, y, n_directions=7)
    expected = np.mean([cheapest(x @ u, y @ u) for u in directions(7)])
    assert found == pytest.approx(SCALE_PER_DIMENSION * D * expected)


def test_along_a_shift_it_is_the_square_of_scipys_distance() -> None:
    """Where one set is the other one moved, W1 and W2 are the same length."""
    x = rows(20, 1)
    y = x + np.array([0.3, 0, 0, 0, 0])
    expected = np.mean([wasserstein_distance(x @ u, y @ u) ** 2 for u in directions(50)])
    assert sliced_distance(x, y, n_directions=50) == pytest.approx(3 * D * expected)


def test_a_step_of_the_mean_counts_three_times_its_square() -> None:
    """The unit: 3 D times |step|^2 / D, as the mean over directions of (u . step)^2 tends to."""
    x = rows(50, 1)
    found = sliced_distance(x, x + np.array([0, 0, 2.0, 0, 0]), n_directions=4000)
    assert found == pytest.approx(3 * 2.0**2, rel=0.05)


def test_equal_sets_are_0_apart_in_any_order_and_repeated() -> None:
    x, y = rows(8, 1), rows(8, 2)
    assert sliced_distance(x, x[::-1]) == 0
    assert sliced_distance(x, np.concatenate([x, x])) == pytest.approx(0, abs=1e-20)
    assert sliced_distance(x, y) == pytest.approx(sliced_distance(y, x))
    assert sliced_distance(x, y) == sliced_distance(x, y)
    assert sliced_distance(x, y, seed=1) != sliced_distance(x, y)


def test_values_without_a_prompt_are_those_without_its_rows() -> None:
    x, y = rows(9, 1), rows(6, 2)
    prompts = ["a", "b", "c"] * 3
    found = sliced_leave_one_out(x, y, clusters=prompts, n_directions=11)
    for name in "abc":
        rest = x[[prompt != name for prompt in prompts]]
        assert found[name] == pytest.approx(sliced_distance(rest, y, n_directions=11))
    assert sliced_leave_one_out(x[:3], y, clusters=["a", "a", "b"], n_directions=2).keys() == {"b"}
