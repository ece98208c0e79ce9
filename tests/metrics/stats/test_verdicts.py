"""Verdicts by contrasts: rarely wrong, and not always open."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from metrics.stats.verdicts import (
    ALIKE,
    Function,
    Thresholds,
    contrast,
    judge,
    judge_quality,
    shown_above,
)

NAMES = [f"p{i:03}" for i in range(200)]


def function(arm: np.ndarray, base: np.ndarray, floor: np.ndarray) -> Function:
    named = [dict(zip(NAMES, map(float, x), strict=False)) for x in (arm, base, floor)]
    return Function(*named)


def edge_f1(n: int, kept: float, rng: np.random.Generator) -> Function:
    """Like edge F1 of pocket: the base near .93 with some bad images, the floor near .1."""
    base = np.where(rng.random(n) < 0.88, rng.beta(40, 2, n), rng.beta(4, 4, n))
    floor = rng.beta(2, 18, n)
    center = floor + kept * (0.895 - 0.1)
    return function((center + rng.normal(0, 0.12, n)).clip(0, 1), base, floor)


def rates(n: int, kept: float, rng: np.random.Generator) -> Function:
    """Return images of a style that the base draws in 75 % of cases, the floor in 8 %."""
    p = 0.08 + kept * 0.67
    return function(rng.random(n) < p, rng.random(n) < 0.75, rng.random(n) < 0.08)


def words(make, n: int, kept: float, *, n_worlds: int = 300) -> Counter[str]:
    rng = np.random.default_rng(5)
    return Counter(judge([make(n, kept, rng)])[0].word for _ in range(n_worlds))


@pytest.mark.parametrize("n", [12, 24, 60])
@pytest.mark.parametrize(("kept", "wrong"), [(0.8, "works"), (0.4, "lost")])
def test_at_a_threshold_the_word_is_wrong_in_at_most_a_twentieth(
    n: int, kept: float, wrong: str
) -> None:
    assert words(edge_f1, n, kept)[wrong] <= 0.08 * 300


@pytest.mark.parametrize("n", [24, 60])
@pytest.mark.parametrize(("kept", "wrong"), [(0.8, "works"), (0.4, "lost")])
def test_rates_are_rarely_wrong_too(n: int, kept: float, wrong: str) -> None:
    assert words(rates, n, kept)[wrong] <= 0.09 * 300


def test_what_is_clear_is_said_at_24_prompts() -> None:
    assert words(edge_f1, 24, 0.95)["works"] >= 0.8 * 300
    assert words(edge_f1, 24, 0.1)["lost"] >= 0.99 * 300
    assert words(edge_f1, 24, 0.6)["degraded"] >= 0.8 * 300


def test_nothing_is_said_below_the_least_number_of_prompts() -> None:
    rng = np.random.default_rng(0)
    (few,) = judge([edge_f1(11, 0.1, rng)])
    assert (few.word, few.n_more) == ("open", 1) and "needs 12 prompts" in str(few.reason)
    (rate,) = judge([rates(23, 0.0, rng)])
    assert rate.word == "open" and "a rate needs 24" in str(rate.reason)


def test_rates_of_all_and_none_are_no_certainty() -> None:
    ones, zeros = np.ones(24), np.zeros(24)
    (found,) = judge([function(ones, ones, zeros)])
    assert found.p is None or found.p > 1e-6
    assert np.allclose(contrast(function(ones, ones, zeros), 0.8), 0.2)


def test_many_arms_are_corrected_together() -> None:
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(200):
        arms = [edge_f1(24, 0.8, rng) for _ in range(9)]
        wrong += any(verdict.word == "works" for verdict in judge(arms))
    assert wrong <= 0.1 * 200


def test_an_open_verdict_says_about_how_many_prompts_decide() -> None:
    rng = np.random.default_rng(7)
    found = [judge([edge_f1(24, 0.86, rng)])[0] for _ in range(40)]
    more = [verdict.n_more for verdict in found if verdict.word == "open"]
    assert more and all(n is not None and n >= 1 for n in more)
    assert 10 < np.median([n for n in more if n is not None]) < 400


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="0 <= lost < works <= 1"):
        Thresholds(works=0.4, lost=0.8)


def distances(rng: np.random.Generator, *means: float, n: int, noise: float) -> list[dict]:
    return [{f"p{i}": float(v) for i, v in enumerate(rng.normal(mean, noise, n))} for mean in means]


@pytest.mark.parametrize(
    ("q", "word"),
    [(0.0, "like the new model"), (0.5, "between"), (1.0, "like the old model")],
)
def test_quality_is_judged_by_its_share_of_the_base_models_distance(q: float, word: str) -> None:
    arm, base = distances(np.random.default_rng(0), q, 1.0, n=60, noise=0.2)
    assert [found.word for found in judge_quality([(arm, base)])] == [word]


def test_quality_near_a_threshold_cannot_be_told_and_needs_more_prompts() -> None:
    arm, base = distances(np.random.default_rng(1), 0.24, 1.0, n=24, noise=0.3)
    (found,) = judge_quality([(arm, base)])
    assert found.word == "cannot be told" and found.n_more is not None and found.n_more > 100


def test_where_the_old_model_is_not_far_there_is_nothing_to_tell() -> None:
    arm, base = distances(np.random.default_rng(2), 0.0, 0.01, n=24, noise=0.3)
    (found,) = judge_quality([(arm, base)])
    assert (found.word, found.n_more, found.reason) == ("cannot be told", None, ALIKE)


@pytest.mark.parametrize("n", [12, 24, 60])
def test_a_quality_at_a_threshold_is_rarely_called_better(n: int) -> None:
    rng, wrong = np.random.default_rng(n), 0
    for _ in range(400):
        arm, base = distances(rng, 0.25, 1.0, n=n, noise=0.3)
        (found,) = judge_quality([(arm, base)])
        wrong += found.word == "like the new model"
    assert wrong / 400 <= 0.08


def test_an_effect_is_shown_only_where_it_is_above_the_other() -> None:
    high, same, zero = distances(np.random.default_rng(3), 0.5, 0.0, 0.0, n=24, noise=0.3)
    assert shown_above([high, same], zero) == [True, False]
    ones, none = dict.fromkeys(high, 1.0), dict.fromkeys(high, 0.0)
    assert shown_above([ones, none], none) == [True, False]
