"""Ratios of differences on drawn scores whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from metrics.stats.ratio import (
    NO_EFFECT,
    NO_ROOM,
    Quantity,
    Reference,
    compatibility,
    dominated_area,
    image_quantities,
    quality_gain,
    retention,
    set_quantity,
)

PROMPT_OF = {f"c{i}": f"p{i}" for i in range(400)}


def drawn(rng: np.random.Generator, *means: float, n: int = 60, noise: float = 0.05) -> tuple:
    """Arms of image scores that share hard and easy prompts, two seeds each."""
    hardness = rng.normal(0, 0.2, n)
    return tuple(
        {
            (f"c{i}", s): mean * (1 + hardness[i]) + noise * float(rng.normal())
            for i in range(n)
            for s in (0, 1)
        }
        for mean in means
    )


def quantities(rng: np.random.Generator, *means: float, **given) -> tuple[Quantity, ...]:
    return image_quantities(*drawn(rng, *means, **given), cluster_of=PROMPT_OF)


def test_retention_is_the_share_of_the_effect_that_is_kept():
    method, base, floor = quantities(np.random.default_rng(0), 0.7, 0.9, 0.1)
    found = retention(method, base=base, floor=floor, better="higher")
    assert found.value == pytest.approx((0.7 - 0.1) / (0.9 - 0.1), abs=0.03)
    assert found.low is not None and found.high is not None
    assert found.low < 0.75 < found.high and found.high - found.low < 0.1
    assert (found.n, found.n_clusters) == (120, 60)


def test_retention_of_an_error_counts_downwards():
    method, base, floor = quantities(np.random.default_rng(0), 0.3, 0.1, 0.9)
    found = retention(method, base=base, floor=floor, better="lower")
    assert found.value == pytest.approx(0.75, abs=0.03)


def test_ratio_intervals_cover_the_truth_about_as_often_as_stated():
    rng, hits = np.random.default_rng(5), 0
    for _ in range(200):
        method, base, floor = quantities(rng, 0.5, 0.9, 0.1, n=30, noise=0.3)
        found = retention(method, base=base, floor=floor, better="higher")
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.5 <= found.high
    assert 0.90 <= hits / 200 <= 0.99


def test_joint_resampling_is_narrower_than_separate_prompts_would_be():
    rng = np.random.default_rng(1)
    method, base, floor = drawn(rng, 0.45, 0.9, 0.0, n=40, noise=0.01)
    joint = image_quantities(method, base, floor, cluster_of=PROMPT_OF)
    shuffled = {(f"c{(int(c[1:]) * 7) % 40}", s): v for (c, s), v in method.items()}
    apart = image_quantities(shuffled, base, floor, cluster_of=PROMPT_OF)
    widths = []
    for arms in (joint, apart):
        found = retention(arms[0], base=arms[1], floor=arms[2], better="higher")
        assert found.low is not None and found.high is not None
        widths.append(found.high - found.low)
    assert widths[0] < widths[1] / 3


def test_a_plugin_without_effect_has_no_retention_but_a_reason():
    method, base, floor = quantities(np.random.default_rng(2), 0.5, 0.5, 0.5)
    found = retention(method, base=base, floor=floor, better="higher")
    assert found.value is None and found.low is None
    assert found.reason == NO_EFFECT


def test_too_few_prompts_have_no_ratio_but_a_reason():
    method, base, floor = quantities(np.random.default_rng(2), 0.7, 0.9, 0.1, n=4)
    found = retention(method, base=base, floor=floor, better="higher")
    assert found.value is None and found.reason is not None and "too few" in found.reason


def test_arms_on_different_prompts_have_no_ratio_but_a_reason():
    (method,) = quantities(np.random.default_rng(2), 0.7, n=20)
    base, floor = quantities(np.random.default_rng(2), 0.9, 0.1, n=30)
    found = retention(method, base=base, floor=floor, better="higher")
    assert found.value is None and found.reason is not None and "different prompts" in found.reason


def set_scores(values: np.ndarray) -> Quantity:
    """Return the square of a mean as a set score, with its leave-one-out values."""
    left = {f"p{i}": float(np.delete(values, i).mean() ** 2) for i in range(len(values))}
    return set_quantity(float(values.mean() ** 2), left, n=len(values))


def test_quality_gain_of_set_scores_covers_the_truth():
    rng, hits = np.random.default_rng(3), 0
    for _ in range(200):
        shared = rng.normal(0, 0.3, 40)
        base, method, upgraded = (
            set_scores(m + shared + rng.normal(0, 0.1, 40)) for m in (2.0, 1.5, 1.0)
        )
        found = quality_gain(method, base=base, upgraded=upgraded)
        assert found.low is not None and found.high is not None
        hits += found.low <= (4 - 2.25) / 3 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_no_gain_is_told_where_the_base_is_as_good():
    rng = np.random.default_rng(3)
    base, method, upgraded = (set_scores(1 + rng.normal(0, 0.2, 30)) for _ in range(3))
    assert quality_gain(method, base=base, upgraded=upgraded).reason == NO_ROOM


def test_dominated_area_of_known_staircases():
    kept = np.array([[0.5, 1.0, 0.2], [2.0, -1.0, 0.5]])
    gained = np.array([[0.5, 0.25, 0.1], [2.0, 0.9, 0.9]])
    # .5 x .5 + .5 x .25; a point beyond the corner is the whole square
    assert dominated_area(kept, gained) == pytest.approx([0.375, 1.0])


def plane(rng: np.random.Generator, true_points, *, n: int, noise: float):
    """Points and reference with base function 1, floor 0, base quality 1, upgraded 0."""
    kept, gained = zip(*true_points, strict=True)
    f = quantities(rng, *kept, 1.0, 0.0, n=n, noise=noise)
    q = quantities(rng, *(1 - g for g in gained), 1.0, 0.0, n=n, noise=noise)
    k = len(true_points)
    points = list(zip(f[:k], q[:k], strict=True))
    return points, Reference(f[k], f[k + 1], q[k], q[k + 1])


def test_compatibility_finds_the_area_and_its_interval():
    points, reference = plane(
        np.random.default_rng(4), [(0.9, 0.2), (0.6, 0.6), (0.2, 0.9)], n=80, noise=0.1
    )
    found = compatibility(points, reference)
    truth = 0.3 * 0.2 + 0.4 * 0.6 + 0.2 * 0.9
    assert found.score.value == pytest.approx(truth, abs=0.04)
    assert found.score.low is not None and found.score.high is not None
    assert found.score.low < truth < found.score.high
    assert found.split_half == pytest.approx(truth, abs=0.06)


def test_split_halves_show_the_bias_of_the_best_of_many_noisy_points():
    rng, excess, excess_split = np.random.default_rng(6), [], []
    for _ in range(15):
        points, reference = plane(rng, [(0.5, 0.5)] * 6, n=20, noise=1.0)
        found = compatibility(points, replace(reference))
        if found.score.value is not None and found.split_half is not None:
            excess.append(found.score.value - 0.25)
            excess_split.append(found.split_half - 0.25)
    assert len(excess) > 5
    assert np.mean(excess) > 0.1
    assert np.mean(excess_split) < 0.5 * np.mean(excess)


def test_no_effect_leaves_no_compatibility_score():
    rng = np.random.default_rng(7)
    f = quantities(rng, 0.5, 0.5, 0.5)
    q = quantities(rng, 0.2, 1.0, 0.0)
    found = compatibility([(f[0], q[0])], Reference(f[1], f[2], q[1], q[2]))
    assert found.score.value is None and found.score.reason == NO_EFFECT
    assert found.split_half is None
