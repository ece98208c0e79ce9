"""Claims about what is said of the differences of two runs."""

import numpy as np
import pandas as pd
import pytest

from leaderboard.figures.differences import (
    FEW_PROMPTS,
    differences_sentence,
    plugin_differences,
)


def pairs_of(
    values: dict[str, tuple[np.ndarray, np.ndarray]], *, metric: str = "m", better: str = "higher"
) -> pd.DataFrame:
    """Return pairs of images, one a prompt: plugin -> values of the baseline and candidate."""
    sign = 1.0 if better == "higher" else -1.0
    return pd.concat(
        pd.DataFrame(
            {
                **{"plugin": plugin, "metric": metric, "better": better},
                **{"prompt": [f"prompt {i}" for i in range(len(old))]},
                **{"value_old": old, "value_new": new, "difference": sign * (new - old)},
            }
        )
        for plugin, (old, new) in values.items()
    )


def shifted(mean: float, n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return values of a baseline and of a candidate that is better by `mean`, paired."""
    noise = np.random.default_rng(seed).normal(0, 0.1, n)
    return np.full(n, 0.5), 0.5 + noise - noise.mean() + mean


def test_a_clear_loss_is_worse_and_comes_first() -> None:
    values = {"kept": shifted(0.0, 24), "gained": shifted(0.3, 24), "lost": shifted(-0.3, 24)}
    rows = plugin_differences(pairs_of(values))
    assert [(row["plugin"], row["word"]) for row in rows] == [
        ("lost", "worse"),
        ("kept", "not told apart"),
        ("gained", "better"),
    ]
    assert rows[0]["high"] < 0 < rows[2]["low"]
    assert differences_sentence(rows) == (
        "Of 3 comparisons, 1 worse: lost; 1 not told apart: kept; 1 better: gained."
    )


def test_a_difference_of_many_comparisons_needs_more_than_its_own_interval() -> None:
    borderline = shifted(-0.045, 24)
    (alone,) = plugin_differences(pairs_of({"p": borderline}))
    assert alone["word"] == "worse" and 0.01 < alone["p"] < 0.05
    others = {f"other {i}": shifted(0.0, 24, seed=i + 1) for i in range(9)}
    among = {
        row["plugin"]: row for row in plugin_differences(pairs_of({"p": borderline, **others}))
    }
    assert among["p"]["high"] < 0  # its interval is not corrected
    assert among["p"]["word"] == "not told apart"
    assert among["p"]["p"] == pytest.approx(10 * alone["p"])


def test_below_12_prompts_there_is_neither_an_interval_nor_a_word() -> None:
    (row,) = plugin_differences(pairs_of({"p": shifted(-0.5, 11)}))
    assert (row["low"], row["high"], row["p"]) == (None, None, None)
    assert row["word"] == FEW_PROMPTS and "12" in row["reason"]
    (row,) = plugin_differences(pairs_of({"p": shifted(-0.5, 12)}))
    assert row["word"] == "worse" and row["high"] < 0


@pytest.mark.parametrize("n", [24, 400])
def test_a_few_lost_images_of_a_rate_are_no_finding(n: int) -> None:
    old, new = np.ones(n), np.ones(n)
    new[:4] = 0  # 2 of 16 sign patterns are as extreme
    (row,) = plugin_differences(pairs_of({"p": (old, new)}))
    assert row["p"] == pytest.approx(0.125) and row["word"] == "not told apart"
    assert row["low"] is not None and row["low"] < -4 / n < row["high"]
    new[:8] = 0
    (row,) = plugin_differences(pairs_of({"p": (old, new)}))
    assert row["word"] == "worse"


def test_equal_runs_are_not_told_apart() -> None:
    old = np.linspace(0, 1, 24)
    (row,) = plugin_differences(pairs_of({"p": (old, old)}))
    assert row["word"] == "not told apart" and row["p"] == 1 and row["value"] == 0


def test_words_of_equal_runs_are_wrong_in_one_of_twenty_families() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(60):
        values = {f"p{i}": tuple(rng.normal(0, 1, (2, 16))) for i in range(4)}
        rows = plugin_differences(pairs_of(values))
        wrong += any(row["word"] in ("worse", "better") for row in rows)
    assert wrong <= 8  # 3 expected; more than 8 in 1 of 200 repetitions


def test_lower_values_of_a_metric_whose_lower_ones_are_better_are_better() -> None:
    values = {"p": shifted(-0.3, 24)}
    (row,) = plugin_differences(pairs_of(values, better="lower"))
    assert row["word"] == "better" and row["value"] == pytest.approx(0.3)
    rates = {"p": (np.ones(24), np.zeros(24))}
    (row,) = plugin_differences(pairs_of(rates, better="lower"))
    assert row["word"] == "better" and row["value"] == 1.0 and row["low"] > 0.5
