"""Claims about opening runs: complete, old, unfinished and damaged ones."""

import json
from pathlib import Path

import pandas as pd
import pytest

from bench.store.run_store import RunStore
from bench.store.schema import PUBLISHED
from leaderboard.data.catalog import find_runs, read_run
from leaderboard.data.tables import RunTables
from tests.leaderboard.drawn_results import write_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_results(root / "older", created="2026-11-01T00:00:00+00:00", n_cases=3)
    write_results(root / "newer", created="2026-11-02T00:00:00+00:00", n_cases=3)
    return root


def test_runs_are_found_newest_first(folder: Path) -> None:
    assert list(find_runs(folder)) == ["newer", "older"]


def test_a_folder_that_is_a_run_shows_that_run(folder: Path) -> None:
    assert list(find_runs(folder / "older")) == ["older"]


def test_tables_equal_what_the_store_reads(folder: Path) -> None:
    tables, store = RunTables(read_run(folder / "older")), RunStore(folder / "older")
    assert tables.problems == []
    for name in ("trials", "results", "scores", "summary", "compatibility"):
        read = store.read_table(name)
        expected = read[[column for column in PUBLISHED[name].names if column in read]]
        found = tables.query(f"SELECT * FROM {name}")[expected.columns.tolist()]
        keys = [c for c in ("trial_id", "plugin", "method", "t0", "level") if c in expected]
        found, expected = (f.sort_values(keys, ignore_index=True) for f in (found, expected))
        for frame in (found, expected):
            assert len(frame) > 0
        plain = [f.astype(object).where(f.notna(), None).to_dict("list") for f in (found, expected)]
        assert plain[0] == plain[1], name


def test_the_newest_part_of_a_trial_wins(tmp_path: Path) -> None:
    store = write_results(tmp_path / "run", n_cases=1)
    trial = store.trials()["trial_id"][0]
    store.write_results("later", [{"trial_id": trial, "status": "failed", "error": "late"}])
    tables = RunTables(read_run(store.folder))
    assert tables.query("SELECT status FROM images WHERE trial_id = ?", [trial])["status"][0] == (
        "failed"
    )
    assert tables.count("results") == tables.count("trials")


def test_a_truncated_file_is_named_and_the_rest_still_opens(tmp_path: Path) -> None:
    store = write_results(tmp_path / "run", n_cases=1)
    broken = store.folder / "scores" / "edge-f1.parquet"
    broken.write_bytes(broken.read_bytes()[:-40])
    tables = RunTables(read_run(store.folder))
    assert tables.problems == ["Scores: edge-f1.parquet cannot be read and is left out (damaged)"]
    assert set(tables.query("SELECT metric FROM scores")["metric"]) == {"style-clip-i"}


def test_damage_in_the_middle_of_a_file_is_reported(tmp_path: Path) -> None:
    store = write_results(tmp_path / "run", n_cases=1)
    path = store.folder / "tables" / "summary.parquet"
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(bytes(content))
    tables = RunTables(read_run(store.folder))
    assert tables.problems == ["The summary cannot be read: their file is damaged."]
    assert tables.count("summary") == 0 and tables.count("trials") > 0


def test_columns_of_another_type_or_missing_ones_are_null(tmp_path: Path) -> None:
    store = write_results(tmp_path / "run", n_cases=1)
    pd.DataFrame({"plugin": ["p"], "value": ["<b>high</b>"]}).to_parquet(
        store.folder / "tables" / "summary.parquet"
    )
    rows = RunTables(read_run(store.folder)).query("SELECT plugin, value, low FROM summary")
    assert rows["plugin"][0] == "p" and rows[["value", "low"]].isna().all(axis=None)


def test_a_run_in_progress_and_an_unknown_format_say_so(tmp_path: Path) -> None:
    store = write_results(tmp_path / "run", n_cases=1)
    store.write_run_facts({**store.run_facts(), "status": "running"})
    assert "not complete (status: running)" in RunTables(read_run(store.folder)).problems[0]
    (store.folder / "run.json").write_text(json.dumps({"format": 99}))
    assert "has format 99" in RunTables(read_run(store.folder)).problems[0]


def test_an_old_run_without_tables_opens_empty(tmp_path: Path) -> None:
    store = write_results(tmp_path / "run", n_cases=1)
    (store.folder / "tables" / "compatibility.parquet").unlink()
    tables = RunTables(read_run(store.folder))
    assert tables.count("compatibility") == 0 and tables.problems == []


def test_file_names_that_look_like_patterns_or_sql_are_names(tmp_path: Path) -> None:
    store = write_results(tmp_path / "run's [x]*", n_cases=1)
    tables = RunTables(read_run(store.folder))
    assert tables.problems == [] and tables.count("trials") > 0
