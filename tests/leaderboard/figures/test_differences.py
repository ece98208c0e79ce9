"""Claims about what is said of the differences of runs from a baseline."""

import numpy as np
import pandas as pd
import pytest

from bench.analysis.words import comparison_sentence
from bench.store import Row
from leaderboard.figures.differences import difference_estimate, judged_cells
from leaderboard.figures.pairs import FUNCTION, Choice


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
                "sign": sign,
            }
        )
        for plugin, (old, new) in values.items()
    )


def plugin_differences(*runs: pd.DataFrame) -> list[Row]:
    """Return the judged rows of runs against one baseline, with their intervals."""
    found, estimates = {}, {}
    for i, pairs in enumerate(runs):
        rows = []
        for plugin, part in pairs.groupby("plugin"):
            own = estimates[f"run {i}", plugin] = difference_estimate(part)
            rows.append(
                {
                    **{"plugin": plugin, "metric": "m", "adapter": None},
                    **{"value": own.value, "n": own.n},
                    "means": part.groupby("prompt")["difference"].mean().to_numpy(),
                }
            )
        found[f"run {i}"] = rows
    cells = judged_cells(found, Choice("xadapter", FUNCTION))
    judged = [row for by_run in cells.values() for row in by_run.values()]
    for row in judged:
        own = estimates[row["run"], row["plugin"]]
        row |= {"low": own.low, "high": own.high, "reason": own.reason}
    return judged


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
    found = {"new": [(row["plugin"], row["word"]) for row in rows]}
    assert comparison_sentence("old", found) == (
        "Against old, new is worse on 1 of 3 plugins (lost), better on 1 (gained) and not told "
        "apart on 1."
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
    assert row["word"] == "not tested" and "12" in row["reason"]
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


def test_holm_is_over_all_runs_that_are_shown() -> None:
    borderline = pairs_of({"p": shifted(-0.045, 24)})
    (alone,) = plugin_differences(borderline)
    others = [pairs_of({"p": shifted(0.0, 24, seed=i + 1)}) for i in range(9)]
    among = next(r for r in plugin_differences(borderline, *others) if r["run"] == "run 0")
    assert (alone["word"], among["word"]) == ("worse", "not told apart")
    assert among["p"] == pytest.approx(10 * alone["p"])


def test_a_clear_loss_is_told_apart_among_thousands_of_comparisons() -> None:
    n = 2000  # 9,999 flips alone cannot tell anything apart among more than 500
    values = {f"p{i}": shifted(0.0, 48, seed=i) for i in range(n - 1)}
    rows = plugin_differences_of_means({**values, "lost": shifted(-0.3, 48, seed=n)})
    assert rows["lost"] == "worse" and list(rows.values()).count("not told apart") >= n - 2


def plugin_differences_of_means(values: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, str]:
    """Return the word of each plugin, without intervals."""
    rows = [
        {
            **{"plugin": name, "metric": "m", "adapter": None},
            **{"value": (new - old).mean(), "n": 48, "means": new - old},
        }
        for name, (old, new) in values.items()
    ]
    cells = judged_cells({"run": rows}, Choice("xadapter", FUNCTION))
    return {str(line[0]): by_run["run"]["word"] for line, by_run in cells.items()}


def test_runs_without_a_difference_share_a_clause_and_unfinished_ones_have_none() -> None:
    same = [("a", "not told apart"), ("b", "not told apart")]
    found = {"x": [("a", "worse"), ("b", "not told apart")], "y": same, "z": same}
    assert comparison_sentence("old", found, unfinished=["u"]) == (
        "Against old, x is worse on 1 of 2 plugins (a) and not told apart on 1; y and z are not "
        "told apart on any of 2 plugins; u is unfinished and not compared."
    )
    assert comparison_sentence("old", {}, unfinished=["old", "u"]) == (
        "old is unfinished: nothing is compared with it yet."
    )
