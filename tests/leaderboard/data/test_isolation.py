"""Claims about one damaged run beside others: only its own page changes."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.store.parquet import MAX_ROWS
from bench.store.schema import RESULTS
from leaderboard.data import current_runs, open_tables
from leaderboard.data.catalog import read_run
from leaderboard.data.footers import checked_files
from leaderboard.data.isolation import isolated
from leaderboard.data.sources import RESULTS_VARIABLE, SHIPPED
from leaderboard.data.tables import RunTables, TablesError
from leaderboard.figures import open_standings
from tests.leaderboard.drawn_results import write_results
from tests.leaderboard.views_driver import open_view, texts

pytestmark = pytest.mark.system


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Serve two runs, `good` and `bad`."""
    for name in ("good", "bad"):
        write_results(tmp_path / name, n_cases=1, images=False)
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    return tmp_path


def tables_of(name: str) -> RunTables:
    return open_tables(current_runs()[name])


def test_facts_that_are_not_a_mapping_are_named(folder: Path) -> None:
    for content in ("[]", "null", '"text"', "3"):
        (folder / "bad" / "run.json").write_text(content)
        runs = current_runs()
        assert "run.json cannot be read" in runs["bad"].problems[0]
        assert runs["good"].problems == ()


def test_a_pipe_in_place_of_a_file_is_named_and_never_waited_for(folder: Path) -> None:
    for name in ("run.json", "manifest.yaml", "gate.json", "trials.parquet"):
        (folder / "bad" / name).unlink(missing_ok=True)
        os.mkfifo(folder / "bad" / name)
    problems = " ".join(tables_of("bad").problems)
    for name in ("run.json", "manifest.yaml", "gate.json", "trials.parquet"):
        assert name in problems
    assert tables_of("good").problems == []


def test_a_link_to_nothing_hides_no_other_part_of_the_table(folder: Path) -> None:
    before = tables_of("bad").count("results")
    (folder / "bad" / "results" / "more.parquet").symlink_to("/nonexistent/file")
    assert tables_of("bad").count("results") == before
    assert "more.parquet cannot be read and is left out (missing)" in tables_of("bad").problems[-1]


def test_a_footer_of_too_many_rows_is_refused_before_reading(folder: Path) -> None:
    value = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), ["x"])
    with pq.ParquetWriter(
        folder / "bad" / "trials.parquet", pa.schema([("trial_id", value.type)])
    ) as w:
        for _ in range(MAX_ROWS // 1_000_000 + 1):
            w.write_table(pa.table({"trial_id": value}))
    tables = tables_of("bad")
    assert "6,000,000 rows" in tables.problems[-1] and tables.count("trials") == 0
    assert tables.count("results") > 0


def test_parts_together_have_a_bound_of_rows(tmp_path: Path) -> None:
    value = pa.DictionaryArray.from_arrays(pa.array([0] * (MAX_ROWS // 2), pa.int32()), ["x"])
    paths = [tmp_path / f"{n}.parquet" for n in range(3)]
    for path in paths:
        pq.write_table(pa.table({"trial_id": value}), path)
    problems: list[str] = []
    kept = checked_files(paths, RESULTS, problems, title="Results")
    assert list(kept) == paths[:2]
    assert "2.parquet" in problems[0] and "more than 5,000,000 rows" in problems[0]


@pytest.mark.parametrize("table", ["trials", "scores/edge-f1", "tables/summary"])
def test_rows_that_occur_twice_count_once_and_are_named(folder: Path, table: str) -> None:
    name = {"scores/edge-f1": "scores", "tables/summary": "summary"}.get(table, table)
    good = tables_of("bad").query(f"SELECT * FROM {name} ORDER BY ALL")
    path = folder / "bad" / f"{table}.parquet"
    frame = pd.read_parquet(path)
    pd.concat([frame, frame]).to_parquet(path)
    tables = tables_of("bad")
    assert tables.query(f"SELECT * FROM {name} ORDER BY ALL").equals(good)
    assert f"{len(frame):,} rows occur twice and count once" in tables.problems[-1]
    assert tables.count("images") == tables_of("good").count("images")


def test_a_file_with_columns_of_another_type_changes_no_other_file(folder: Path) -> None:
    path = folder / "bad" / "scores" / "style-clip-i.parquet"
    frame = pd.read_parquet(path)
    frame["value"] = [b"\xff\xfe"] * len(frame)
    frame.to_parquet(path)
    sql = "SELECT metric, trial_id, value FROM scores WHERE metric = 'edge-f1' ORDER BY ALL"
    assert tables_of("bad").query(sql).equals(tables_of("good").query(sql))
    own = tables_of("bad").rows("SELECT value FROM scores WHERE metric = 'style-clip-i'")
    assert len(own) == len(frame) and {row["value"] for row in own} == {None}


def test_long_prompts_are_cut_and_stay_different(tmp_path: Path) -> None:
    store = write_results(tmp_path / "run", n_cases=2, images=False)
    frame = store.trials()
    frame["base_prompt"] = ["p" * 1_000_000 + case for case in frame["case_id"]]
    store.write_trials(frame.to_dict("records"))
    found = RunTables(read_run(store.folder)).rows("SELECT DISTINCT base_prompt AS p FROM trials")
    assert len(found) == 2 and all(len(row["p"]) < 2100 for row in found)
    assert all("(1000008 characters, MD5 " in row["p"] for row in found)


def test_a_file_that_is_removed_while_a_page_is_open_is_one_line(folder: Path) -> None:
    tables = tables_of("bad")
    for path in (folder / "bad" / "scores").glob("*.parquet"):
        path.unlink()
    with pytest.raises(TablesError, match="run 'bad' changed"):
        tables.rows("SELECT * FROM scores")
    assert tables_of("bad").count("scores") == 0  # read again


def test_tables_can_read_no_other_file(folder: Path) -> None:
    other = folder / "good" / "trials.parquet"
    for sql in (
        f"SELECT * FROM '{other}'",
        f"SELECT * FROM read_text('{other}')",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        f"COPY (SELECT 1) TO '{folder}/written.csv'",
    ):
        with pytest.raises(TablesError):
            tables_of("bad").rows(sql)
    assert not (folder / "written.csv").exists()


def test_a_folder_whose_name_is_not_utf8_is_listed(folder: Path) -> None:
    os.rename(os.fsencode(folder / "bad"), os.fsencode(folder) + b"/bad-\xff")
    assert set(current_runs()) == {"good", "bad-\\udcff"}
    assert "good" in texts(open_view("overview", folder))


def test_every_page_opens_beside_a_run_that_cannot_be_read(folder: Path) -> None:
    (folder / "bad" / "run.json").write_text("[]")
    (folder / "bad" / "trials.parquet").write_bytes(b"PAR1")
    for view in ("overview", "tradeoff", "handover", "plugin", "compare", "provenance"):
        open_view(view, folder)
    rows, problems = open_standings(current_runs()["good"])
    assert len(rows) == 4 and problems == ()


def test_what_a_reader_does_not_survive_is_the_runs_problem() -> None:
    def fail() -> str:
        raise MemoryError

    assert isolated(fail, lambda line: line, run="x") == "This run cannot be read: MemoryError"


def test_an_index_of_any_shape_leaves_other_runs_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    shutil.copytree(SHIPPED, store)
    shipped = {path.stem: path for path in (store / "index").glob("*.json")}
    for number, content in enumerate(("[]", "null", "{", '{"format": []}', "[" * 100_000)):
        (store / "index" / f"bad-{number}.json").write_text(content)
    data = json.loads(shipped["pocket"].read_text())
    (store / "index" / "odd.json").write_text(
        json.dumps({**data, "tables": {"trials": [[], {}, 3]}, "facts": [], "manifest": {}})
    )
    monkeypatch.setenv(RESULTS_VARIABLE, str(store))
    runs = current_runs()
    strange = {"odd", *(f"bad-{n}" for n in range(5))}
    assert set(runs) == {*shipped, *strange}
    assert runs["pocket"].problems == () and tables_of("pocket").count("trials") > 0
    assert all(open_standings(runs[key])[1] for key in strange)
