"""Non-inferiority at a margin: error rates on drawn differences with known truth."""

import math

import numpy as np
import pytest
from scipy import stats as reference

from metrics.stats.intervals import holm, sign_flip_p
from metrics.stats.margin import (
    collapse_p,
    floor_of,
    highest_rate,
    least_variance,
    loss_p,
    mean_p,
    planned_prompts,
    prompts_to_decide,
    step_of,
    within_margin_p,
)
from metrics.stats.sequential import look_p


def rate(p_values: list[float | None], alpha: float = 0.05) -> float:
    assert all(p is not None for p in p_values)
    return float(np.mean([p is not None and p <= alpha for p in p_values]))


def test_p_of_a_loss_is_the_larger_of_scipys_permutation_test_and_halls_t():
    rng = np.random.default_rng(6)
    for x in rng.normal(-0.3, size=(20, 10)) + rng.exponential(0.5, (20, 10)):
        flips = reference.permutation_test(
            (x,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="less"
        )
        plain = reference.ttest_1samp(x, 0.0, alternative="less").pvalue
        found = loss_p(x)
        assert found is not None and found >= max(flips.pvalue, plain) - 1e-7
        assert found == pytest.approx(max(flips.pvalue, mean_p(-x[None], 0.0)[0]))


def test_skewed_differences_of_mean_0_are_not_called_a_loss_too_often():
    rng = np.random.default_rng(9)
    drawn = rng.exponential(size=(2000, 24)) - 1  # few prompts gain much, most lose a little
    names = [f"{i:02}" for i in range(24)]
    flips = [sign_flip_p(x.tolist(), names, side="less", n_flips=999) for x in drawn]
    assert rate(flips) > 0.08
    assert rate([loss_p(x, n_flips=999) for x in drawn]) < 0.08


def test_sides_of_the_sign_test_fit_together():
    x, names = np.random.default_rng(1).normal(0.4, size=12).tolist(), [f"{i}" for i in range(12)]
    less, more = (sign_flip_p(x, names, side=side) for side in ("less", "greater"))
    both = sign_flip_p(x, names)
    assert less is not None and more is not None and more < 0.5 < less
    assert both == pytest.approx(2 * more)


def test_swapped_labels_are_called_a_loss_no_more_often_than_stated():
    rng = np.random.default_rng(2)
    skewed = rng.gamma(0.5, size=(400, 30)) * rng.choice([-1, 1], (400, 30))
    rare = (rng.random((400, 60)) < 0.08) * rng.choice([-1.0, 1.0], (400, 60))
    for drawn in (skewed, rare):
        assert rate([loss_p(x, n_flips=1999) for x in drawn]) <= 0.075


def test_t_test_within_the_margin_equals_scipys():
    x = np.random.default_rng(3).normal(0.0, 0.2, size=40)
    x = np.concatenate([x, -x])  # no skewness
    expected = reference.ttest_1samp(x, -0.05, alternative="greater").pvalue
    assert within_margin_p(x, 0.05) == pytest.approx(expected)


def test_rare_losses_of_a_rate_are_not_proven_absent_by_a_few_prompts():
    rng = np.random.default_rng(4)
    drawn = -(rng.random((2000, 24)) < 0.05).astype(float)  # true difference: minus the margin
    with_floor = [within_margin_p(x, 0.05, step=1.0) for x in drawn]
    without = [within_margin_p(x, 0.05) for x in drawn]
    assert rate(with_floor) <= 0.065
    assert rate(without) > 0.15


def test_rare_large_losses_are_not_taken_for_none():
    rng = np.random.default_rng(8)
    drawn = 0.1 * (1 - rng.exponential(size=(3000, 60))) - 0.05  # true difference: -margin
    expected = reference.ttest_1samp(drawn, -0.05, alternative="greater", axis=1).pvalue
    assert rate([within_margin_p(x, 0.05) for x in drawn]) <= 0.065
    assert float(np.mean(expected <= 0.05)) > 0.075


def test_no_change_at_all_in_enough_prompts_is_within_the_margin():
    few, many = np.zeros(20), np.zeros(200)
    assert within_margin_p(few, 0.05, step=1.0) > 0.05
    assert within_margin_p(many, 0.05, step=1.0) < 0.01


def test_the_floor_of_the_variance_is_that_of_losses_of_one_step():
    losses = -np.repeat([1.0, 0.0], [5, 95])
    assert least_variance(0.05, step=1.0) == pytest.approx(losses.var())
    assert least_variance(0.05, step=0.01) == 0.0


def test_images_that_fail_together_pass_a_lost_margin_no_more_often_than_stated():
    rng = np.random.default_rng(10)
    drawn = -(rng.random((4000, 20)) < 0.1).astype(float)  # all images of a prompt at once
    assert rate([within_margin_p(x, 0.1, step=1.0) for x in drawn]) <= 0.065


def test_a_known_spread_is_a_floor_under_the_variance():
    rng = np.random.default_rng(11)
    change = (rng.random((4000, 20)) < 0.08) * rng.normal(-0.25, 0.25, (4000, 20))
    spread = 0.08**0.5 * 0.25  # of two equal mappers: 8 % of prompts change by N(0, .25)
    assert rate([within_margin_p(x, 0.02) for x in change]) > 0.12
    assert rate([within_margin_p(x, 0.02, spread=spread) for x in change]) < 0.065
    assert floor_of(0.02, spread=0.1) == pytest.approx(0.01)
    assert floor_of(0.1, step=1.0, spread=0.1) == pytest.approx(0.09)


def test_p_of_collapses_equals_scipys_binomial_test():
    for k, n in ((0, 60), (1, 58), (4, 60), (12, 12)):
        expected = reference.binomtest(k, n, 0.02, alternative="greater")
        assert collapse_p(np.array([k]), n, 0.02)[0] == pytest.approx(expected.pvalue)
        high = reference.binomtest(k, n, alternative="less").proportion_ci(0.95).high
        assert highest_rate(k, n, 0.05) == pytest.approx(high)


def test_single_collapses_are_excluded_from_149_prompts_on():
    assert highest_rate(0, 60, 0.05) == pytest.approx(0.0487, abs=1e-4)
    assert highest_rate(0, 148, 0.05) > 0.02 > highest_rate(0, 149, 0.05)


def test_steps_of_scores_are_found():
    assert step_of(np.array([0.0, 1.0, 1.0, 0.0])) == 1.0
    assert step_of(np.array([0.2, 0.4, 1.0, 0.4, 0.2, 1.0])) == pytest.approx(0.2)
    assert step_of(np.ones(8)) == 1.0
    assert step_of(np.random.default_rng(0).normal(size=50)) == 0.0


def test_too_few_prompts_have_no_p():
    assert loss_p(np.array([-1.0, -1.0])) is None
    assert within_margin_p(np.array([0.0, 0.1]), 0.05) is None


def test_prompts_to_decide_follow_the_textbook():
    # one-sided 5 %, 90 % power: n = 8.6 (s / d)^2
    n = prompts_to_decide(0.25, effect=0.03, alpha=0.05, power=0.9)
    assert n == pytest.approx(8.56 * (0.25 / 0.03) ** 2, rel=0.01)


def test_the_planned_number_of_prompts_gives_the_power():
    effects, shares = (0.2, 0.25, 0.3), (0.5, 1.0)
    n = planned_prompts(effects, alpha=0.05, power=0.8, shares=shares)
    rng = np.random.default_rng(5)
    z = rng.standard_normal((4000, 3)) + np.array(effects) * math.sqrt(n)
    passed = [max(holm([float(look_p(x, shares, look=1)) for x in row])) <= 0.05 for row in z]
    assert np.mean(passed) == pytest.approx(0.8, abs=0.03)
    one = planned_prompts((0.2,), alpha=0.05, power=0.8, shares=(1.0,))
    assert one == pytest.approx(prompts_to_decide(1, effect=0.2, alpha=0.05, power=0.8), rel=0.06)
