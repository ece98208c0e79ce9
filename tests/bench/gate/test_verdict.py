"""The gate's decision on drawn differences: looks, corrections, error rates of the whole family."""

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.gate.decision import EXIT_CODES, Collapse, Rules, Sample, decide, overall
from bench.gate.policy import GateMetric
from bench.gate.verdict import decide_gate, planned

FAST = Rules(n_flips=999, min_prompts=20)
SHARES = (0.4, 0.7, 1.0)


def sample(
    rng: np.random.Generator,
    *,
    mean: float = 0.0,
    spread: float = 0.1,
    n: int = 60,
    margin: float = 0.05,
    shares: tuple[float, ...] = SHARES,
    metric: str = "m",
) -> Sample:
    values = rng.normal(mean, spread, n)
    looks = tuple(values[: round(share * n)] for share in shares)
    return Sample("p", metric, "higher", margin, looks, shares, n_per_prompt=2.0)


def test_a_clear_regression_stops_at_the_first_look():
    found = decide_gate([sample(np.random.default_rng(0), mean=-0.15)], Rules())
    assert (found.verdict, found.look) == ("regression", 1)
    assert found.tests[0].n_prompts == 24 and found.tests[0].n_images == 48


def test_a_clear_pass_stops_at_the_first_look():
    found = decide_gate([sample(np.random.default_rng(0), spread=0.02)], FAST)
    assert (found.verdict, found.look) == ("pass", 1)


def test_fewer_prompts_than_60_do_not_pass_by_default():
    x = sample(np.random.default_rng(0), spread=0.02, n=59, shares=(1.0,))
    found = decide_gate([x], Rules())
    assert found.verdict == "inconclusive"
    assert found.tests[0].sentence.startswith(
        "59 prompts are fewer than the policy's 60 for a pass"
    )
    assert found.tests[0].sentence.endswith("about 60 prompts, 2 more images of the candidate")


def test_a_real_loss_inside_the_margin_is_a_verdict_of_its_own():
    x = sample(np.random.default_rng(0), mean=-0.01, spread=0.02, n=400, shares=(1.0,))
    found = decide_gate([x, sample(np.random.default_rng(1), spread=0.02)], Rules())
    assert found.verdict == "real loss inside the margin" and EXIT_CODES[found.verdict] == 0
    assert [test.verdict for test in found.tests] == [found.verdict, "pass"]
    test = found.tests[0]
    assert max(test.p_loss, test.p_margin) <= 0.05 and (test.high or 0) < 0
    assert test.sentence.startswith("it got worse, by less than the margin of 0.050")


def test_identical_pictures_are_identical_at_any_number_of_prompts():
    same = replace(sample(np.random.default_rng(0), n=2, shares=(1.0,)), is_identical=True)
    same = replace(same, looks=(np.zeros(2),))
    found = decide_gate([same, same], Rules())
    assert found.verdict == "identical" and EXIT_CODES[found.verdict] == 0
    assert found.tests[0].sentence == (
        "all 4 compared images are byte-identical to the baseline's: nothing to do"
    )
    other = sample(np.random.default_rng(0), spread=0.01)
    assert decide_gate([same, other], Rules()).verdict == "pass"
    unknown = sample(np.random.default_rng(0), n=2, shares=(1.0,))
    assert decide_gate([same, unknown], Rules()).verdict == "inconclusive"


def rare_losses(n_collapsed: int, n: int = 60) -> Sample:
    x = np.random.default_rng(0).normal(0.02, 0.005, n)
    x[:n_collapsed] = -0.35
    return Sample("p", "m", "higher", 0.05, (x,), (1.0,), n_per_prompt=1.0, collapse=Collapse(0.3))


def test_prompts_that_collapse_are_a_regression_although_the_mean_is_within_the_margin():
    found = decide_gate([rare_losses(4)], Rules()).tests[0]
    assert found.verdict == "regression" and found.p_margin <= 0.05 < found.p_loss
    assert (found.n_collapsed, found.p_collapse) == (4, pytest.approx(0.0322, abs=1e-3))
    assert found.sentence.startswith(
        "4 of 60 prompts lost 0.300 or more (none gained as much), beyond"
    )
    few = decide_gate([rare_losses(3)], Rules()).tests[0]
    assert few.verdict == "pass" and "3 of 60 lost 0.300 or more, up to 12.4% may" in few.sentence


def test_a_pass_tells_which_rate_of_collapses_it_does_not_exclude():
    found = decide_gate([rare_losses(0)], Rules()).tests[0]
    assert found.verdict == "pass" and found.collapse_rate_high == pytest.approx(0.0487, abs=1e-4)
    assert "none lost 0.300 or more, up to 4.9% may" in found.sentence


def test_mappers_that_move_prompts_both_ways_collapse_rarely():
    rng, n_wrong = np.random.default_rng(13), 0
    for _ in range(400):
        x = (rng.random(62) < 0.08) * rng.choice([-1, 1], 62) * rng.normal(0.25, 0.1, 62)
        drawn = Sample("p", "m", "higher", 0.02, (x,), (1.0,), 4.0, collapse=Collapse(0.2))
        n_wrong += decide([drawn], FAST)[1][0].verdict == "regression"
    assert n_wrong / 400 <= 0.07


def test_collapses_are_corrected_for_the_number_of_tests():
    found = decide_gate([rare_losses(4), *[rare_losses(0)] * 5], Rules())
    assert found.tests[0].p_collapse == pytest.approx(6 * 0.0322, rel=0.02)
    assert found.verdict == "pass"


def test_what_retrained_mappers_change_by_is_no_collapse():
    rng = np.random.default_rng(12)
    collapse = GateMetric(name="m", margin=0.005).collapse_of("image", step=0.0, n_per_prompt=4)
    assert collapse is not None
    x = rng.normal(0, 0.06, (500, 60))  # twelve margins
    assert collapse.count(x).sum() == 0
    x[:, :4] -= 0.9
    assert (collapse.count(x) == 4).all()


def test_a_rate_collapses_by_all_of_at_least_three_images():
    spec = GateMetric(name="rate", margin=0.05)
    assert spec.collapse_of("image", step=1.0, n_per_prompt=4) == Collapse(1.0)
    assert spec.collapse_of("image", step=1.0, n_per_prompt=2) is None
    assert spec.collapse_of("group", step=0.0, n_per_prompt=4) is None
    given = GateMetric(name="rate", margin=0.05, collapse=0.5)
    assert given.collapse_of("image", step=1.0, n_per_prompt=2) == Collapse(0.5)


def early(mean: float, spread: float, margin: float = 0.05) -> Sample:
    """Return a sample of which only the first of three looks is rendered, with exact moments."""
    x = np.random.default_rng(7).normal(size=40)
    x = mean + spread * (x - x.mean()) / x.std(ddof=1)
    return Sample("p", "m", "higher", margin, (x,), SHARES, n_per_prompt=1.0)


def test_a_shown_loss_goes_on_while_it_may_still_be_within_the_margin():
    found = decide_gate([early(-0.025, 0.05)], Rules()).tests[0]
    assert found.p_loss <= 0.05 and found.verdict == "inconclusive"
    assert found.power_to_pass is not None and found.power_to_pass > 0.9
    assert "may be within the margin at the last look" in found.sentence


def test_a_loss_beyond_the_margin_ends_the_gate_early():
    found = decide_gate([early(-0.12, 0.1)], Rules()).tests[0]
    assert found.verdict == "regression" and found.p_beyond <= 0.05
    assert "worse by more than the margin" in found.sentence


def test_a_loss_without_a_chance_to_pass_ends_the_gate_early():
    found = decide_gate([early(-0.05, 0.1)], Rules()).tests[0]
    assert found.verdict == "regression" and found.p_beyond > 0.05
    # normal theory by hand: (sqrt(N) (m + margin) / s - z) / sqrt(1 - n / N)
    z = (math.sqrt(100) * 0.0 / 0.1 - 1.6449) / math.sqrt(1 - 0.4)
    expected = 0.5 * math.erfc(-z / math.sqrt(2))
    assert found.power_to_pass == pytest.approx(expected, abs=1e-4) and expected < 0.05
    assert "at the last look is below 5%" in found.sentence


def test_a_loss_ends_early_where_no_number_of_prompts_to_come_can_pass():
    found = decide_gate([early(-0.025, 0.05)], Rules(min_prompts=101)).tests[0]
    assert (found.verdict, found.power_to_pass) == ("regression", 0.0)


def test_half_of_the_margin_is_rarely_an_early_regression():
    rng, early_ones = np.random.default_rng(8), 0
    for _ in range(200):
        look, decisions = decide([sample(rng, mean=-0.025, spread=0.07, n=100)], FAST)
        early_ones += look < 3 and overall(decisions) == "regression"
    assert early_ones <= 6


def test_one_regression_makes_the_gate_one_whatever_the_others_say():
    rng = np.random.default_rng(1)
    samples = [sample(rng, spread=0.5), sample(rng, mean=-0.2), sample(rng, spread=0.01)]
    found = decide_gate(samples, FAST)
    assert found.verdict == "regression"
    assert [test.verdict for test in found.tests] == ["inconclusive", "regression", "pass"]


def test_one_open_test_keeps_the_gate_open():
    rng = np.random.default_rng(2)
    found = decide_gate([sample(rng, spread=0.01), sample(rng, spread=0.5)], Rules())
    assert found.verdict == "inconclusive" and found.look == 3


def test_missing_images_keep_a_test_open_even_if_the_rest_is_fine():
    x = replace(sample(np.random.default_rng(0), spread=0.01), missing="2 images are missing")
    found = decide_gate([x], Rules())
    assert found.verdict == "inconclusive"
    assert found.tests[0].reason == "2 images are missing"


@pytest.mark.parametrize(
    ("mean", "n", "verdict"),
    [(-0.5, 9, "inconclusive"), (-0.5, 12, "regression"), (0.5, 12, "inconclusive")],
)
def test_few_prompts_can_fail_a_gate_but_not_pass_it(mean: float, n: int, verdict: str):
    found = decide_gate([sample(np.random.default_rng(0), mean=mean, n=n, shares=(1.0,))], Rules())
    assert found.verdict == verdict
    assert (verdict == "regression") == (found.tests[0].reason is None)
    assert verdict == "regression" or "min_prompts" in (found.tests[0].reason or "")


def test_a_gate_without_data_is_inconclusive():
    empty = Sample("p", "m", "higher", 0.05, (), (1.0,), n_per_prompt=1.0)
    assert decide_gate([empty], Rules()).verdict == "inconclusive"
    assert decide_gate([], Rules()).verdict == "inconclusive"


def test_better_is_turned_for_distances():
    x = sample(np.random.default_rng(0), mean=-0.15)
    found = decide_gate([replace(x, better="lower")], Rules()).tests[0]
    assert found.difference is not None and found.low is not None and found.high is not None
    assert found.low < 0.15 < found.high and found.verdict == "regression"


def test_the_further_images_decide():
    rng = np.random.default_rng(3)
    x = sample(rng, spread=0.2, n=24, shares=(1.0,))
    x = replace(x, looks=(x.looks[0] - x.looks[0].mean(),))
    test = decide_gate([x], Rules()).tests[0]
    assert test.verdict == "inconclusive" and test.further_images is not None
    n = 24 + test.further_images // 2
    spread = float(x.looks[0].std(ddof=1))
    again = [sample(rng, spread=spread, n=n, shares=(1.0,)) for _ in range(60)]
    decided = [decide_gate([y], FAST).verdict != "inconclusive" for y in again]
    assert 0.65 <= np.mean(decided) <= 0.95


@pytest.mark.parametrize(("mean", "wrong"), [(0.0, "regression"), (-0.05, "pass")])
def test_family_wise_errors_stay_below_the_level_with_early_stopping(mean: float, wrong: str):
    rng, n_wrong = np.random.default_rng(4), 0
    for _ in range(300):
        samples = [sample(rng, mean=mean, n=100) for _ in range(4)]
        _, decisions = decide(samples, FAST)
        n_wrong += wrong in {decision.verdict for decision in decisions}
    assert n_wrong / 300 <= 0.08  # two standard errors above 5 %


def test_the_planned_number_lets_an_equal_candidate_pass():
    rng = np.random.default_rng(5)
    n = planned([sample(rng, n=400) for _ in range(3)], FAST, 3)
    assert n is not None and 20 < n < 100
    passed = [
        overall(decide([sample(rng, n=n) for _ in range(3)], FAST)[1]) == "pass" for _ in range(200)
    ]
    assert 0.7 <= np.mean(passed) <= 0.92
