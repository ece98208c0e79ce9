"""Claims about ranks and their intervals."""

from pathlib import Path

import pandas as pd

from leaderboard.data.catalog import find_runs
from leaderboard.data.tables import RunTables
from leaderboard.figures.standings import as_csv, matching, method_rows, plugin_rows, ranked
from tests.leaderboard.drawn_results import write_results


def scores(*rows: tuple[float | None, float | None, float | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["score", "score_low", "score_high"], dtype=float)


def test_overlapping_intervals_leave_the_rank_open_and_separate_ones_do_not() -> None:
    rows = ranked(scores((0.2, 0.1, 0.3), (0.8, 0.7, 0.9), (0.75, 0.65, 0.85)))
    assert rows["score"].tolist() == [0.8, 0.75, 0.2]
    assert rows["rank"].tolist() == [1, 2, 3]
    assert rows["rank_low"].tolist() == [1, 1, 3]
    assert rows["rank_high"].tolist() == [2, 2, 3]


def test_equal_scores_share_a_rank() -> None:
    assert ranked(scores((0.5, 0.4, 0.6), (0.5, 0.4, 0.6)))["rank"].tolist() == [1, 1]


def test_a_missing_score_has_no_rank_and_takes_none_from_others() -> None:
    rows = ranked(scores((None, None, None), (0.4, 0.3, 0.5)))
    assert rows["rank"].tolist() == [1, pd.NA] and rows["rank_high"].tolist() == [1, pd.NA]


def test_a_score_without_interval_counts_as_exact() -> None:
    rows = ranked(scores((0.6, None, None), (0.5, 0.4, 0.55)))
    assert rows["rank_high"].tolist() == [1, 2]


def test_methods_average_their_plugins_and_count_those_without_a_score(tmp_path: Path) -> None:
    write_results(tmp_path / "one", n_cases=2)
    (run,) = find_runs(tmp_path).values()
    rows = plugin_rows(run, RunTables(run))
    rows.loc[rows.index[0], ["score", "score_low", "score_high"]] = None
    methods = method_rows(rows).set_index("method")
    assert methods["n_plugins"].sum() == 3 and methods["n_unmeasured"].sum() == 1
    kept = rows[rows["method"] == "xadapter"]["score"].mean()
    assert methods.loc["xadapter", "score"] == kept


def test_rows_carry_what_the_manifest_says_and_filters_keep_matching_ones(tmp_path: Path) -> None:
    write_results(tmp_path / "one", n_cases=2)
    (run,) = find_runs(tmp_path).values()
    rows = plugin_rows(run, RunTables(run))
    assert set(zip(rows["plugin"], rows["license"], rows["condition"], strict=True)) == {
        ("canny-net", "Apache-2.0", "canny"),
        ("ink-lora", "MIT", ""),
    }
    assert set(matching(rows, {"license": ["MIT"]})["plugin"]) == {"ink-lora"}


def test_csv_holds_no_formula() -> None:
    rows = pd.DataFrame({"plugin": ["=1+2", "@x", "-y", "plain", None], "score": [-0.5] * 5})
    assert as_csv(rows).splitlines() == [
        "plugin,score",
        "'=1+2,-0.5",
        "'@x,-0.5",
        "'-y,-0.5",
        "plain,-0.5",
        ",-0.5",
    ]
