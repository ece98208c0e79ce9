import warnings

import numpy as np
import pytest
from scipy import stats as reference

from metrics.stats.intervals import (
    MIN_CLUSTERS,
    clustered_mean,
    holm,
    jackknife,
    paired_difference,
    paired_jackknife,
    sign_flip_p,
)


def prompts(n: int, per_prompt: int = 1) -> list[str]:
    return [f"prompt {i // per_prompt:03}" for i in range(n)]


def expanded(n: int) -> float:
    """Return the level at which an interval of the bootstrap's spread is Student's."""
    t = reference.t.ppf(0.975, n - 1)
    return float(1 - 2 * reference.norm.cdf(-np.sqrt(n / (n - 1)) * t))


def test_interval_equals_scipy_bca_without_clusters():
    values = np.random.default_rng(3).gamma(2.0, size=40)
    found = clustered_mean(values.tolist(), prompts(40), n_resamples=40_000)
    expected = reference.bootstrap(
        (values,),
        np.mean,
        n_resamples=40_000,
        method="BCa",
        confidence_level=expanded(40),
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(expected.low, abs=0.02)
    assert found.high == pytest.approx(expected.high, abs=0.02)


def test_interval_equals_scipy_bca_on_unequal_clusters():
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 6, 30)
    labels = np.repeat(np.arange(30), sizes)
    values = rng.normal(size=30)[labels] + 0.3 * rng.normal(size=len(labels))
    sums, counts = np.bincount(labels, values), np.bincount(labels)

    def ratio(total, count, axis=-1):
        return total.sum(axis=axis) / count.sum(axis=axis)

    expected = reference.bootstrap(
        (sums, counts),
        ratio,
        paired=True,
        vectorized=True,
        n_resamples=40_000,
        method="BCa",
        confidence_level=expanded(30),
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = clustered_mean(values.tolist(), [f"{i:02}" for i in labels], n_resamples=40_000)
    assert found.low == pytest.approx(expected.low, abs=0.03)
    assert found.high == pytest.approx(expected.high, abs=0.03)


def piled_up(rng: np.random.Generator, n: int) -> np.ndarray:
    """Scores of which 88 % are near 1, as edge F1 of the base model; their mean is .912."""
    return np.where(rng.random(n) < 0.12, rng.uniform(0.1, 0.8, n), rng.uniform(0.95, 1, n))


POPULATIONS = {
    "normal": (lambda rng, n: rng.normal(0.5, 0.2, n), 0.5),
    "skewed": (lambda rng, n: rng.exponential(0.3, n), 0.3),
    "piled up": (piled_up, 0.12 * 0.45 + 0.88 * 0.975),
    "images of a prompt alike": (lambda rng, n: np.repeat(rng.normal(0.5, 0.2, n), 3), 0.5),
}


@pytest.mark.parametrize("n", [12, 24, 60])
@pytest.mark.parametrize("name", POPULATIONS)
def test_intervals_cover_the_truth_about_as_often_as_stated(name: str, n: int):
    draw, truth = POPULATIONS[name]
    rng, hits, n_runs = np.random.default_rng(7), 0, 600
    for _ in range(n_runs):
        values = draw(rng, n)
        labels = prompts(len(values), len(values) // n)
        found = clustered_mean(values.tolist(), labels, support=(0.1, 1.0), n_resamples=500)
        assert found.low is not None and found.high is not None and found.low < found.high
        hits += found.low <= truth <= found.high
    # below the stated 95 % by chance or by skewness at most to 92; a very wide one is no answer
    assert 0.92 <= hits / n_runs <= 0.995


def test_an_arm_that_never_failed_has_an_interval_of_some_width():
    values = np.random.default_rng(0).uniform(0.95, 1.0, 12).tolist()
    alone = clustered_mean(values, prompts(12))
    among_others = clustered_mean(values, prompts(12), support=(0.1, 1.0))
    assert alone.low is not None and among_others.low is not None
    assert alone.low > 0.95 and among_others.low < 0.9


def test_clusters_widen_the_interval_when_images_of_a_prompt_are_alike():
    values = np.repeat(np.random.default_rng(0).normal(size=12), 8).tolist()
    alone, clustered = clustered_mean(values, prompts(96)), clustered_mean(values, prompts(96, 8))
    assert alone.low is not None and clustered.low is not None
    assert clustered.low < alone.low
    assert clustered.n_clusters == 12 and clustered.n == 96


def test_interval_does_not_depend_on_the_order_of_values():
    values, labels = np.random.default_rng(1).normal(size=30), np.array(prompts(30, 3))
    order = np.random.default_rng(2).permutation(30)
    first = clustered_mean(values.tolist(), labels.tolist())
    second = clustered_mean(values[order].tolist(), labels[order].tolist())
    assert second.low == pytest.approx(first.low, abs=1e-12)
    assert second.high == pytest.approx(first.high, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "no values"),
        ([0.1, 0.2], "too few"),
        ([0.5] * 12, "equal"),
        (list(np.arange(11) / 10), "too few"),
    ],
)
def test_too_little_data_gives_no_interval_but_a_reason(values, reason):
    found = clustered_mean(values, prompts(len(values)))
    assert found.low is None and found.high is None
    assert found.reason is not None and reason in found.reason


def test_skewed_small_samples_raise_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = clustered_mean([0.0] * 11 + [1.0], prompts(12))
    assert found.low is not None and found.high is not None
    assert 0 <= found.low <= 1 / 12 <= found.high


def test_differences_pair_case_and_seed():
    rng = np.random.default_rng(0)
    hard = {(f"c{i}", s): float(rng.normal()) for i in range(12) for s in (0, 1)}
    better = {pair: value + 0.1 + 0.01 * float(rng.normal()) for pair, value in hard.items()}
    better["c99", 0] = 50.0  # without a partner
    found = paired_difference(better, hard, cluster_of={f"c{i}": f"p{i}" for i in range(100)})
    assert found.n == 24 and found.n_clusters == 12
    assert found.low is not None and found.high is not None
    assert 0.08 < found.low < 0.1 < found.high < 0.12


def test_cases_with_one_prompt_are_one_cluster():
    a = {(f"c{i}", 0): float(i) for i in range(8)}
    b = {pair: 0.0 for pair in a}
    found = paired_difference(a, b, cluster_of={f"c{i}": "the same" for i in range(8)})
    assert found.low is None and found.n_clusters == 1


def test_jackknife_of_a_mean_is_students_interval():
    values = np.random.default_rng(4).normal(size=15)
    left_out = {f"p{i}": float(np.delete(values, i).mean()) for i in range(15)}
    found = jackknife(float(values.mean()), left_out, n=15)
    low, high = reference.t.interval(0.95, 14, loc=values.mean(), scale=reference.sem(values))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_jackknife_needs_enough_prompts():
    found = jackknife(1.0, {"a": 1.0, "b": 2.0}, n=2)
    assert found.value == 1.0 and found.low is None


def test_paired_jackknife_refuses_different_prompts():
    parts = {f"p{i}": float(i) for i in range(MIN_CLUSTERS)}
    found = paired_jackknife((1.0, parts), (0.5, {**parts, "more": 1.0}), n=5)
    assert found.value == 0.5 and found.low is None
    assert found.reason == "the two sets hold different prompts"


def test_sign_flips_equal_scipys_exact_permutation_test():
    values = np.random.default_rng(6).normal(0.5, size=10)
    expected = reference.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_p(values.tolist(), prompts(10)) == pytest.approx(expected.pvalue)


def test_sign_flips_of_many_prompts_are_near_the_exact_value():
    values = np.random.default_rng(6).normal(0.3, size=40)
    p = sign_flip_p(values.tolist(), prompts(40))
    assert p == pytest.approx(reference.ttest_1samp(values, 0).pvalue, abs=0.02)
    assert p == sign_flip_p(values.tolist(), prompts(40))


def test_sign_flips_of_too_few_prompts_give_no_p():
    assert sign_flip_p([1.0, 2.0], ["a", "b"]) is None


def test_holm_follows_his_example():
    # Holm 1979: sorted p times (m, m - 1, ...), made monotone, at most 1
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_spread_of_rounding_errors_gives_no_interval():
    noise = [1.0 + sign * 4e-16 for sign in (1, -1) * 6]
    names = [f"prompt {i}" for i in range(12)]
    found = jackknife(1.0, dict(zip(names, noise, strict=True)), n=12)
    assert (found.value, found.low, found.high) == (1.0, None, None)
    mean = clustered_mean([0.3 + sign * 5e-17 for sign in (1, -1) * 6], names)
    assert (mean.low, mean.high) == (None, None) and mean.reason
    # an effect of the same size in small units is a spread
    small = jackknife(1e-6, {name: 1e-6 * x for name, x in zip(names, noise, strict=True)}, n=12)
    assert small.low is None
    real = jackknife(1e-6, {n: 1e-6 * (1 + 0.1 * (i % 2)) for i, n in enumerate(names)}, n=12)
    assert real.low is not None


def test_equal_scores_have_no_difference_with_an_interval_of_a_rate() -> None:
    scores = {(f"c{i}", 0): 0.5 + i / 100 for i in range(24)}
    found = paired_difference(scores, scores, cluster_of={case: case for case, _ in scores})
    assert (found.value, found.low, found.high) == (0.0, None, None)
    assert "all 24 values are equal" in (found.reason or "")
    more = {pair: value + (pair[0] == "c3") for pair, value in scores.items()}
    found = paired_difference(more, scores, cluster_of={case: case for case, _ in scores})
    assert found.low is not None and found.low <= 0 < (found.high or 0)
