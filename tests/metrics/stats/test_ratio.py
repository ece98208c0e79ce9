"""Ratios of differences on drawn scores whose truth is known."""

import numpy as np
import pytest
from scipy import stats as reference

from metrics.stats.quantity import Quantity, image_quantities
from metrics.stats.ratio import NO_EFFECT, retention

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


@pytest.mark.parametrize("n", [12, 24, 60])
def test_ratio_intervals_cover_the_truth_about_as_often_as_stated(n: int):
    rng, hits = np.random.default_rng(5), 0
    for _ in range(600):
        method, base, floor = quantities(rng, 0.5, 0.9, 0.1, n=n, noise=0.3)
        found = retention(method, base=base, floor=floor, better="higher")
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.5 <= found.high
    assert 0.93 <= hits / 600 <= 0.98


@pytest.mark.parametrize("n", [12, 24, 60])
def test_ratio_intervals_of_rates_cover_and_are_never_of_width_zero(n: int):
    rng, hits, n_known = np.random.default_rng(6), 0, 0
    for _ in range(600):
        rates = rng.random((3, n)) < np.array([[0.7], [0.95], [0.05]])
        arms = [{(f"c{i}", 0): float(v) for i, v in enumerate(row)} for row in rates]
        method, base, floor = image_quantities(*arms, cluster_of=PROMPT_OF)
        found = retention(method, base=base, floor=floor, better="higher")
        if found.low is None or found.high is None:
            continue
        n_known += 1
        assert found.low < found.high
        hits += found.low <= 0.65 / 0.9 <= found.high
    assert n_known > 590
    assert 0.92 <= hits / n_known <= 0.99


def test_fiellers_set_holds_the_ratios_that_a_t_test_does_not_refute():
    rng = np.random.default_rng(8)
    f, b, o = (rng.normal(m, 0.3, 20) for m in (0.6, 1.0, 0.1))
    arms = [{(f"c{i}", 0): float(v) for i, v in enumerate(row)} for row in (f, b, o)]
    method, base, floor = image_quantities(*arms, cluster_of=PROMPT_OF)
    found = retention(method, base=base, floor=floor, better="higher")
    assert found.low is not None and found.high is not None
    for end in (found.low, found.high):
        assert reference.ttest_1samp((f - o) - end * (b - o), 0).pvalue == pytest.approx(0.05)


def test_an_arm_without_any_failure_has_no_interval_of_width_zero():
    ones = {(f"c{i}", 0): 1.0 for i in range(24)}
    zeros = dict.fromkeys(ones, 0.0)
    method, base, floor = image_quantities(dict(ones), ones, zeros, cluster_of=PROMPT_OF)
    found = retention(method, base=base, floor=floor, better="higher")
    assert found.value == 1.0 and found.low is not None and found.high is not None
    assert found.low < 0.95 and found.high > 1.05


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
