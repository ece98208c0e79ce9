"""Claims about ranks and their intervals."""

from pathlib import Path

import pandas as pd
import pytest

from bench.analysis.words import REFERENCES
from bench.store import PUBLISHED
from leaderboard.data.catalog import find_runs
from leaderboard.data.tables import RunTables
from leaderboard.figures.standings import (
    PLUGIN_COLUMNS,
    as_csv,
    common_plugins,
    matching,
    method_rows,
    plugin_rows,
    ranked,
    with_ranks,
)
from leaderboard.figures.verdicts import EARLIER
from tests.leaderboard.drawn_results import write_results

OLD_RUN = Path(__file__).parents[2] / "data" / "old-run"


def numbers(*rows: tuple[float | None, float | None, float | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["kept", "kept_low", "kept_high"], dtype=float)


def standings(values: dict[tuple[str, str], float | None], run: str = "one") -> pd.DataFrame:
    """Return rows of one run as `plugin_rows` does: (plugin, method) -> number for sorting."""
    return pd.DataFrame(
        {
            **{"run": run, "family": "pocket", "adapter": "a", "plugin": plugin, "method": method},
            **{"verdict": "works", "note": None if value is not None else "nothing measured"},
            **{"kept": value, "kept_t0s": "0.5, 0.9", "seconds": 1.0},
            **{f"kept_{end}": value for end in ("low", "high")},
        }
        for (plugin, method), value in values.items()
    ).astype(dict.fromkeys(("kept", "kept_low", "kept_high"), float))


def test_overlapping_intervals_leave_the_rank_open_and_separate_ones_do_not() -> None:
    rows = ranked(numbers((0.2, 0.1, 0.3), (0.8, 0.7, 0.9), (0.75, 0.65, 0.85)))
    assert rows["kept"].tolist() == [0.8, 0.75, 0.2]
    assert rows["rank"].tolist() == [1, 2, 3]
    assert rows["rank_low"].tolist() == [1, 1, 3]
    assert rows["rank_high"].tolist() == [2, 2, 3]


def test_equal_numbers_share_a_rank() -> None:
    assert ranked(numbers((0.5, 0.4, 0.6), (0.5, 0.4, 0.6)))["rank"].tolist() == [1, 1]


def test_a_missing_number_has_no_rank_and_takes_none_from_others() -> None:
    rows = ranked(numbers((None, None, None), (0.4, 0.3, 0.5)))
    assert rows["rank"].tolist() == [1, pd.NA] and rows["rank_high"].tolist() == [1, pd.NA]


def test_a_number_without_interval_has_no_rank_interval_and_leaves_the_others_open() -> None:
    rows = ranked(numbers((0.9, None, None), (0.5, 0.4, 0.6), (0.1, 0.0, 0.2)))
    assert rows["rank"].tolist() == [1, 2, 3]
    assert rows["rank_low"].tolist() == [pd.NA, 1, 2]
    assert rows["rank_high"].tolist() == [pd.NA, 2, 3]


def test_ranks_are_over_the_plugins_that_all_ranked_rows_have() -> None:
    # over all plugins of each, "easy" would put sdedit of run two first
    one = standings({("hard", "xadapter"): 0.6, ("hard", "sdedit"): 0.5})
    two = standings({("hard", "sdedit"): 0.2, ("easy", "sdedit"): 1.0}, run="two")
    rows = pd.concat([one, two], ignore_index=True)
    assert common_plugins(rows) == ["hard"]
    methods = method_rows(rows)
    assert methods[["run", "method", "rank"]].values.tolist() == [
        ["one", "xadapter", 1],
        ["one", "sdedit", 2],
        ["two", "sdedit", 3],
    ]
    assert methods["kept"].tolist() == pytest.approx([0.6, 0.5, 0.2])


def test_a_method_that_is_for_few_plugins_takes_none_from_the_ranks_of_the_others() -> None:
    values = {(plugin, m): 0.5 for plugin in ("lora", "net") for m in ("sdedit", "xadapter")}
    rows = standings({**values, ("lora", "converted"): 0.9})
    assert common_plugins(rows) == ["lora", "net"]
    methods = method_rows(rows).set_index("method")
    assert methods["rank"].count() == 2 and pd.isna(methods["rank"]["converted"])
    assert methods["rank_reason"]["converted"] == "it was not run with net, as most methods were"
    assert method_rows(rows[rows["plugin"] == "lora"])["method"][0] == "converted"


def test_ranks_begin_anew_in_each_family() -> None:
    easy = standings({("p", "direct"): 0.9, ("p", "sdedit"): 0.8}, run="easy").assign(family="near")
    rows = pd.concat([standings({("q", "xadapter"): 0.5}), easy], ignore_index=True)
    assert method_rows(rows)[["family", "method", "rank"]].values.tolist() == [
        ["pocket", "xadapter", 1],
        ["near", "direct", 1],
        ["near", "sdedit", 2],
    ]


def test_a_row_that_lacks_a_common_plugin_is_listed_without_rank_and_with_the_reason() -> None:
    values = {("p", "xadapter"): 0.5, ("q", "xadapter"): 0.1, ("p", "sdedit"): 0.9}
    methods = method_rows(standings({**values, ("q", "sdedit"): None})).set_index("method")
    assert methods["rank"].tolist() == [1, pd.NA] and pd.isna(methods["rank_reason"]["xadapter"])
    assert methods["rank_reason"]["sdedit"] == "no number for q: nothing measured"
    assert pd.isna(methods["kept"]["sdedit"])


def test_a_plugin_without_any_number_costs_no_rank() -> None:
    values = {("p", "xadapter"): 0.5, ("p", "sdedit"): 0.9}
    missing = {("no effect", "xadapter"): None, ("no effect", "sdedit"): None}
    rows = standings({**values, **missing})
    assert common_plugins(rows) == ["p"] and method_rows(rows)["rank"].tolist() == [1, 2]


def test_runs_without_a_plugin_in_common_have_no_ranks() -> None:
    rows = [standings({(plugin, "sdedit"): 0.5}, run=plugin) for plugin in ("p", "q")]
    methods = method_rows(pd.concat(rows, ignore_index=True))
    assert methods["rank"].isna().all()
    assert set(methods["rank_reason"]) == {"no plugin in common with all other rows"}


def test_a_row_at_other_t0_is_listed_without_rank_and_one_without_t0_is_ranked() -> None:
    values = {("p", m): 0.5 for m in ("sdedit", "xadapter", "hires", "convert")}
    rows = standings(values).set_index("method")
    rows.loc["hires", "kept_t0s"], rows.loc["convert", "kept_t0s"] = "0.5", ""
    methods = method_rows(rows.reset_index()).set_index("method")
    assert methods["rank"].notna().to_dict() == {
        "sdedit": True,
        "xadapter": True,
        "convert": True,
        "hires": False,
    }
    assert methods["rank_reason"]["hires"] == "measured at t0 0.5, most rows at 0.5, 0.9"


def test_an_interval_needs_that_of_every_plugin() -> None:
    rows = standings({("p", "sdedit"): 0.5, ("q", "sdedit"): 0.7})
    rows.loc[rows["plugin"] == "q", ["kept_low", "kept_high"]] = None
    (row,) = method_rows(rows).to_dict("records")
    assert row["kept"] == pytest.approx(0.6) and pd.isna(row["kept_low"])
    assert pd.isna(row["rank_low"])


def test_references_are_never_ranked_and_never_listed(tmp_path: Path) -> None:
    store = write_results(tmp_path / "one", n_cases=2)
    path = store.tables_dir / "compatibility.parquet"
    frame = pd.read_parquet(path)
    extra = frame[frame["level"] == "method"].iloc[[0] * len(REFERENCES)].assign(method=REFERENCES)
    pd.concat([frame, extra.assign(kept=1.0)]).to_parquet(path)
    rows = plugin_rows_of(tmp_path)
    assert not set(rows["method"]) & set(REFERENCES) and len(rows) == 4


def test_rows_of_an_earlier_version_have_retention_and_no_rank(tmp_path: Path) -> None:
    write_results(tmp_path / "new", n_cases=2)
    (run,) = find_runs(tmp_path).values()
    (old,) = find_runs(OLD_RUN).values()
    earlier = plugin_rows(old, RunTables(old))
    assert set(earlier["note"]) == {EARLIER} and earlier["verdict"].isna().all()
    # measured on all prompts at that t0, as the settings are; the method's row was of half of them
    outline = earlier[earlier["plugin"] == "pocket-outline"].set_index("method")
    assert outline["retention"].round(2).to_dict() == {"sdedit": 1.17, "xadapter": 1.17}
    assert earlier["retention_low"].isna().all()  # ten prompts
    both = pd.concat([plugin_rows(run, RunTables(run)), earlier], ignore_index=True)
    assert common_plugins(both) == ["canny-net", "ink-lora"]
    methods = method_rows(both)
    ranks = methods.groupby("run")["rank"].count().to_dict()
    assert ranks == {"new": 2, "old-run": 0}
    assert set(methods.loc[methods["run"] == "old-run", "rank_reason"]) == {EARLIER}


def test_plugins_come_worst_first_each_with_its_answer(tmp_path: Path) -> None:
    store = write_results(tmp_path / "one", n_cases=2)
    path = store.tables_dir / "compatibility.parquet"
    frame = pd.read_parquet(path)
    frame.loc[(frame["plugin"] == "ink-lora") & frame["verdict"].notna(), "verdict"] = "lost"
    frame.to_parquet(path)
    rows = plugin_rows_of(tmp_path)
    assert rows["plugin"].tolist() == ["ink-lora"] * 2 + ["canny-net"] * 2
    assert rows["word"].tolist() == ["lost"] * 2 + ["works"] * 2
    assert rows["answer"].iloc[0].startswith("ink-lora is lost with X-Adapter at t0 0.9")


def test_a_method_without_a_setting_to_use_is_lost_where_all_its_settings_are(
    tmp_path: Path,
) -> None:
    store = write_results(tmp_path / "one", n_cases=2)
    path = store.tables_dir / "compatibility.parquet"
    frame = pd.read_parquet(path)
    own = (frame["plugin"] == "ink-lora") & (frame["method"] == "sdedit")
    frame.loc[own & (frame["level"] == "setting"), "verdict"] = "lost"
    frame.loc[own & (frame["level"] == "method"), "verdict"] = None
    frame.to_parquet(path)
    rows = plugin_rows_of(tmp_path).set_index(["plugin", "method"])
    assert rows.loc[("ink-lora", "sdedit"), "verdict"] == "lost"
    counts = method_rows(rows.reset_index()).set_index("method")["verdicts"]
    assert counts.to_dict() == {"xadapter": "2 works", "sdedit": "1 lost, 1 open"}


def plugin_rows_of(folder: Path) -> pd.DataFrame:
    (run,) = find_runs(folder).values()
    return plugin_rows(run, RunTables(run))


def test_the_export_has_verdicts_and_no_area_score(tmp_path: Path) -> None:
    write_results(tmp_path / "one", n_cases=2)
    rows = plugin_rows_of(tmp_path)
    exported = with_ranks(rows, method_rows(rows))
    assert exported.columns.tolist() == list(PLUGIN_COLUMNS)
    retired = {n for n in PUBLISHED["compatibility"].names if n.startswith(("score", "gain"))}
    assert retired and not retired & set(exported.columns)
    first = exported[exported["recommended"]].iloc[0]
    assert (first["verdict"], first["quality_word"]) == ("works", "like the new model")
    assert first["rank"] == 1 and first["answer"].startswith(first["plugin"])
    exported.to_parquet(tmp_path / "export.parquet")


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
    rows = pd.DataFrame({"plugin": ["=1+2", "@x", "-y", "plain", None], "retention": [-0.5] * 5})
    assert as_csv(rows).splitlines() == [
        "plugin,retention",
        "'=1+2,-0.5",
        "'@x,-0.5",
        "'-y,-0.5",
        "plain,-0.5",
        ",-0.5",
    ]
