"""Claims about the server's cache of runs."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from leaderboard.data import sources
from leaderboard.data.tables import RunTables
from leaderboard.figures.standings import open_standings
from leaderboard.serve import warm_up
from leaderboard.study.runs import RESULTS_VARIABLE
from tests.leaderboard.drawn_results import write_results


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    return tmp_path


def test_a_run_is_read_again_when_it_changes_and_only_then(place: Path) -> None:
    store = write_results(place / "one", n_cases=1)
    first, again = (sources.current_runs()["one"] for _ in range(2))
    assert first is again and sources.open_tables(first) is sources.open_tables(again)
    store.write_run_facts({**store.run_facts(), "status": "running"})
    changed = sources.current_runs()["one"]
    assert "not complete" in changed.problems[0] and changed.stamp != first.stamp
    before = sources.open_tables(changed).count("results")
    trial = {"trial_id": "new", "status": "ok"}
    store.write_results("later", [trial])
    assert sources.open_tables(sources.current_runs()["one"]).count("results") == before + 1
    (store.folder / "gate.json").write_text(json.dumps({"verdict": "pass"}))
    assert sources.current_runs()["one"].gate == {"verdict": "pass"}


def test_many_runs_are_ranked_without_opening_them_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(10):
        write_results(place / f"run-{i}", n_cases=1, n_seeds=1, images=False)
    warm_up()
    opened: list[str] = []
    original = RunTables.__init__

    def counted(self: RunTables, run: sources.Run) -> None:
        opened.append(run.key)
        original(self, run)

    monkeypatch.setattr(RunTables, "__init__", counted)
    for run in sources.current_runs().values():
        rows, problems = open_standings(run)
        assert len(rows) == 4 and problems == ()
    assert opened == []


def test_standings_with_problems_are_looked_at_again(place: Path) -> None:
    store = write_results(place / "one", n_cases=1)
    path = store.folder / "tables" / "compatibility.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    rows, problems = open_standings(sources.current_runs()["one"])
    assert rows.empty and "damaged" in problems[0]
    path.write_bytes(whole)
    rows, problems = open_standings(sources.current_runs()["one"])
    assert len(rows) == 4 and problems == ()


def test_a_run_that_is_slow_to_read_keeps_nobody_from_another(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("slow", "quick"):
        write_results(place / name, n_cases=1, n_seeds=1, images=False)
    runs = sources.current_runs()
    began, go_on = Event(), Event()
    original = RunTables.__init__

    def slowly(self: RunTables, run: sources.Run) -> None:
        if run.key == "slow":
            began.set()
            assert go_on.wait(timeout=30)
        original(self, run)

    monkeypatch.setattr(RunTables, "__init__", slowly)
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(sources.open_tables, runs["slow"]) for _ in range(2)]
        assert began.wait(timeout=30)
        assert sources.open_tables(runs["quick"]).count("trials") > 0
        assert not any(future.done() for future in waiting)
        go_on.set()
        first, second = (future.result() for future in waiting)
    assert first is second
