"""A recommendation holds the best, prefers the cheap, and ignores the order of the list."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from metrics.stats.recommend import Candidate, recommend

NAMES = [f"p{i}" for i in range(60)]


def candidate(name: str, values: np.ndarray, cost: float, **more: bool) -> Candidate:
    return Candidate(name, dict(zip(NAMES, map(float, values), strict=False)), cost, **more)


def world(rng: np.random.Generator, means: tuple[float, ...], n: int) -> list[Candidate]:
    prompts = rng.normal(0, 0.2, n)  # what prompts do to all settings alike
    return [
        candidate(f"s{i}", mean + prompts + rng.normal(0, 0.15, n), cost=1 + i)
        for i, mean in enumerate(means)
    ]


def test_the_best_is_in_the_set_that_cannot_be_told_from_it() -> None:
    rng = np.random.default_rng(1)
    means = (0.5, 0.6, 0.62, 0.8, 0.78)
    found = [recommend(world(rng, means, 24)) for _ in range(300)]
    assert np.mean(["s3" in one.equal for one in found]) >= 0.97
    assert np.mean(["s0" in one.equal for one in found]) <= 0.02


def test_equal_settings_are_decided_by_cost_in_any_order() -> None:
    values = np.linspace(0, 1, 24)
    same = [candidate("a", values, 3.0), candidate("b", values, 1.0), candidate("c", values, 2.0)]
    for order in permutations(same):
        found = recommend(order)
        assert found.name == "b" and found.equal == ("a", "b", "c")


def test_a_setting_that_is_always_worse_is_never_equal() -> None:
    values = np.linspace(0, 1, 24)
    found = recommend([candidate("good", values, 9.0), candidate("bad", values - 0.1, 1.0)])
    assert found.name == "good" and found.equal == ("good",)


def test_a_setting_without_a_shown_effect_is_never_recommended() -> None:
    values = np.linspace(0, 1, 24)
    cheap = candidate("cheap", values, 1.0, is_shown=False)
    assert recommend([cheap, candidate("dear", values, 5.0)]).name == "dear"
    nothing = recommend([cheap])
    assert nothing.name is None and "no setting has an effect" in str(nothing.reason)


def test_a_damaged_mapper_never_outranks_a_better_one_that_is_told_from_it() -> None:
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(200):
        ladder = world(rng, (0.8, 0.7, 0.6, 0.5, 0.4), 60)
        found = recommend(ladder)
        wrong += found.best != "s0" and "s0" not in found.equal
    assert wrong <= 2


def test_few_prompts_give_no_recommendation() -> None:
    found = recommend([candidate("a", np.arange(5.0), 1.0)])
    assert found.name is None and "12 prompts" in str(found.reason)
