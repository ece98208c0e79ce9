"""The gate's decision on drawn differences: looks, corrections, error rates of the whole family."""

from dataclasses import replace

import numpy as np
import pytest

from bench.gate.verdict import Rules, Sample, decide, decide_gate, overall, planned

FAST = Rules(n_flips=999)
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
    found = decide_gate([sample(np.random.default_rng(0), spread=0.02)], Rules())
    assert (found.verdict, found.look) == ("pass", 1)


def test_a_small_loss_within_the_margin_is_a_pass():
    x = sample(np.random.default_rng(0), mean=-0.01, spread=0.02, n=400, shares=(1.0,))
    found = decide_gate([x], Rules())
    assert found.verdict == "pass" and found.tests[0].high is not None and found.tests[0].high < 0


def test_one_regression_makes_the_gate_one_whatever_the_others_say():
    rng = np.random.default_rng(1)
    samples = [sample(rng, spread=0.5), sample(rng, mean=-0.2), sample(rng, spread=0.01)]
    found = decide_gate(samples, Rules())
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
    n = planned([sample(rng, n=400) for _ in range(3)], Rules(), 3)
    assert n is not None and 20 < n < 100
    passed = [
        overall(decide([sample(rng, n=n) for _ in range(3)], FAST)[1]) == "pass" for _ in range(200)
    ]
    assert 0.7 <= np.mean(passed) <= 0.92
