"""Claims about the progress of runs, from their directories as they are while written."""

import os
import time
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.store.files import write_bytes
from bench.store.run_store import RunStore
from bench.store.status import SHARD_DONE
from leaderboard.data.catalog import read_run
from leaderboard.data.progress import run_progress
from leaderboard.figures.standings import open_standings
from leaderboard.study.runs import RESULTS_VARIABLE, study_sources
from tests.leaderboard.drawn_results import write_results

IDS = [f"{n:016x}" for n in range(60)]
START = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Begin a run of 60 trials in batches of 12; nothing is rendered yet."""
    store = RunStore(tmp_path / "one")
    store.folder.mkdir()
    facts = {"run_id": "one", "status": "running", "family": "pocket", "command": "xbench run"}
    store.write_run_facts(facts)
    rows = [
        {"trial_id": i, "plugin": "p", "method": "sdedit", "t0": 0.5, "base_prompt": f"<b>{i}"}
        for i in IDS
    ]
    store.write_trials(rows)
    at(store.run_path, 0)
    return store


def at(path: Path, seconds: float) -> None:
    os.utime(path, (START + seconds, START + seconds))


def render(store: RunStore, trial: str, seconds: float) -> None:
    write_bytes(store.image_path(trial), b"picture")
    at(store.image_path(trial), seconds)


def finish_batch(store: RunStore, number: int, seconds: float, *, n_failed: int = 0) -> None:
    ids = IDS[12 * number : 12 * number + 12]
    rows = [
        {"trial_id": i, "status": "failed" if n < n_failed else "ok"} for n, i in enumerate(ids)
    ]
    for row in rows:
        if row["status"] == "ok":
            render(store, row["trial_id"], seconds)
    store.write_results(f"batch-{number}", rows)
    at(store.table_path("results", f"batch-{number}"), seconds)


def test_images_count_before_their_batch_is_done_and_the_newest_come_first(store):
    with store.lock():
        assert run_progress(store.folder, now=START).sentence == (
            "Unfinished: 0 of 60 images are done."
        )
        finish_batch(store, 0, 12, n_failed=2)
        finish_batch(store, 1, 24)
        for n, trial in enumerate(IDS[24:30]):
            render(store, trial, 25 + n)
        found = run_progress(store.folder, now=START + 30)
    assert (found.state, found.n_done, found.n_failed, found.n_trials) == ("rendering", 30, 2, 60)
    assert [row["trial_id"] for row in found.newest] == IDS[29:23:-1]
    assert found.newest[0]["base_prompt"] == f"<b>{IDS[29]}" and found.newest[0]["t0"] == 0.5
    # 18 images since the first batch in 18 seconds
    assert found.seconds_left == pytest.approx(30.0)
    assert found.sentence == (
        "Unfinished: 30 of 60 images are done, 2 of them failed; less than a minute left."
    )


def test_a_run_that_wrote_nothing_for_long_and_holds_no_lock_is_stopped(store):
    finish_batch(store, 0, 12)
    render(store, IDS[12], 13)  # its batch was broken off
    at(store.folder, 13)
    assert run_progress(store.folder, now=START + 14).n_done == 13
    found = run_progress(store.folder, now=START + 3600)
    assert (found.state, found.n_done, found.seconds_left) == ("stopped", 12, None)
    assert "left" not in found.sentence and "stopped" in found.sentence
    with store.lock():  # however long an image takes
        assert run_progress(store.folder, now=START + 3600).state == "rendering"


@pytest.mark.parametrize("status", ["interrupted", "stopped", "budget reached"])
def test_a_run_that_ended_early_is_stopped_at_once(store, status):
    finish_batch(store, 0, 12)
    store.write_run_facts({**store.run_facts(), "status": status})
    found = run_progress(store.folder, now=START + 13)
    assert (found.state, found.n_done) == ("stopped", 12) and not found.is_running


def test_all_images_done_means_scores_follow_and_a_finished_run_is_finished(store):
    with store.lock():
        for number in range(5):
            finish_batch(store, number, 12 * number)
        assert run_progress(store.folder, now=START + 70).state == "scoring"
    store.write_run_facts({**store.run_facts(), "status": "complete"})
    assert run_progress(store.folder, now=START + 70).state == "finished"


def test_a_shard_counts_its_part_of_the_plan(store):
    store.write_run_facts({**store.run_facts(), "shard": "1/2", "counts": {"trials": 24}})
    with store.lock():
        finish_batch(store, 0, 12)
        found = run_progress(store.folder, now=START + 14)
        assert (found.n_done, found.n_trials, found.state) == (12, 24, "rendering")
        finish_batch(store, 1, 24)
    store.write_run_facts({**store.run_facts(), "status": SHARD_DONE})
    found = run_progress(store.folder, now=START + 30)
    assert found.sentence == "This shard is done: 24 images. The tables come with the last shard."


def test_rows_written_ahead_of_a_batch_are_not_counted_as_failed(store):
    with store.lock():
        finish_batch(store, 0, 12)
        finish_batch(store, 1, 13, n_failed=12)  # as --batch-timeout does before rendering
        for trial in IDS[12:15]:
            render(store, trial, 14)
        found = run_progress(store.folder, now=START + 15)
        assert (found.n_done, found.n_failed) == (15, 0)
        finish_batch(store, 2, 30)
        found = run_progress(store.folder, now=START + 31)
        assert (found.n_done, found.n_failed) == (36, 12)


def test_a_refresh_reads_only_new_files(store, monkeypatch):
    with store.lock():
        for number in range(3):
            finish_batch(store, number, 12 * number)
        now = time.time() + 60  # long after the folder's last change
        run_progress(store.folder, now=now)
        read: list[str] = []
        monkeypatch.setattr(
            "leaderboard.data.progress.read_bytes",
            lambda path, name: read.append(name) or path.read_bytes(),
        )
        run_progress(store.folder, now=now)
        assert read == []
        finish_batch(store, 3, 48)
        assert run_progress(store.folder, now=now).n_done == 48
        assert set(read) == {"batch-3.parquet"}


def test_damaged_and_hostile_files_are_no_progress_and_no_crash(store, tmp_path):
    finish_batch(store, 0, 12)
    store.table_path("results", "bad").write_bytes(b"PAR1 no table")
    assert run_progress(store.folder, now=START + 13).n_done == 12
    (tmp_path / "outside.png").write_bytes(b"x")
    store.write_trials([{"trial_id": "../../outside"}, {"trial_id": None}])
    assert run_progress(store.folder, now=START + 13).newest == ()
    store.run_path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        run_progress(store.folder, now=START + 13)
    with pytest.raises(UserError, match="not a run"):
        run_progress(tmp_path / "none")


def test_a_look_at_the_lock_never_refuses_a_run(store):
    assert store.is_locked() is False
    with store.lock():
        assert store.is_locked() is True
        with (
            pytest.raises(UserError, match="another run is writing"),
            RunStore(store.folder).lock(),
        ):
            pass
    assert store.is_locked() is False


@pytest.mark.parametrize("status", ["running", "interrupted", "stopped", "budget reached", None])
def test_an_unfinished_run_ranks_nowhere_is_marked_and_has_no_study(tmp_path, monkeypatch, status):
    store = write_results(tmp_path / "one", n_cases=12)
    assert len(open_standings(read_run(store.folder))[0]) > 0
    store.write_run_facts({**store.run_facts(), "status": status})
    run = read_run(store.folder)
    rows, problems = open_standings(run)
    assert rows.empty and "kept" in rows and "ranks nowhere" in problems[0]
    assert run.label == "one (unfinished)"
    monkeypatch.setenv(RESULTS_VARIABLE, str(tmp_path))
    assert study_sources() == {}


def test_a_run_with_failed_trials_is_finished_and_ranks(tmp_path):
    store = write_results(tmp_path / "one", n_cases=12)
    store.write_run_facts({**store.run_facts(), "status": "failed trials"})
    run = read_run(store.folder)
    assert len(open_standings(run)[0]) > 0 and run.label == "one"
