"""Scores that are made beside rendering: they wait for what may still come, and change no table."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from bench.registry import find_metric
from bench.render.engine import process
from bench.render.engine.messages import Control
from bench.scoring import beside, read_images, score_by_names
from bench.scoring.beside import BesideProgram, EarlyScores, ScoringBeside, begin_beside
from bench.scoring.task import open_task
from bench.store import RunStore, records
from metrics.base import Score
from tests.bench.drawn_run import draw_run
from tests.bench.scoring.test_work import digests
from tests.bench.warm_workers import PIDS, WarmWorker, warm_workers

pytestmark = pytest.mark.system

# of pixels alone, of a pair, of pixels and a text, of an image and the whole run, of a set
NAMES = ("edge-f1", "pocket-lpips", "pocket-clip", "pocket-style", "pocket-kid-floor")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the hashes of the scores that are made at the end."""
    store = draw_run(tmp_path_factory.mktemp("alone") / "drawn", n_cases=6, natives=True)
    score_by_names(store, NAMES, show_progress=False)
    return digests(store)


class Batches:
    """A drawn run that ends batch by batch: the upgraded model alone, then plugin by plugin."""

    def __init__(self, folder: Path) -> None:
        self.store = draw_run(folder, n_cases=6, natives=True)
        whole = self.store.results().merge(self.store.trials()[["trial_id", "plugin"]])
        self.store.remove_file(self.store.table_path("results", "all"))
        parts = whole.groupby(whole["plugin"].fillna("") + "-1")
        self._rows = {str(name): records(pd.DataFrame(part)) for name, part in parts}
        self.left = [*self._rows]

    def end_next(self) -> str:
        name = self.left.pop(0)
        self.store.write_results(name, self._rows[name])
        return name

    def program(self) -> BesideProgram:
        return BesideProgram(self.store.folder, None, NAMES, "cpu", threads=1)


def test_scores_made_batch_by_batch_are_those_of_the_end(
    tmp_path: Path, alone: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "nice", lambda n: n)  # of this process
    batches = Batches(tmp_path / "run")
    opened = batches.program().open(Control())
    early = EarlyScores(recipes=opened.facts["recipes"])
    while batches.left:
        early.pieces += opened.work(batches.end_next())

    run_images = read_images(batches.store)
    tasks = {name: open_task(find_metric(name), run_images) for name in NAMES}
    early.enter([*tasks.values()], run_images)
    for name, task in tasks.items():
        left = {run_images.subjects[p].image.method for p in task.places if not task.has(p)}
        # its pair was not there when the upgraded model's images came
        assert left == ({"floor"} if name == "pocket-lpips" else set()), name

    score_by_names(batches.store, NAMES, show_progress=False, early=early)
    assert digests(batches.store) == alone


def test_what_has_changed_since_is_scored_again(tmp_path: Path) -> None:
    batches = Batches(tmp_path / "run")
    while batches.left:
        batches.end_next()
    run_images = read_images(batches.store)
    task = open_task(find_metric("edge-f1"), run_images)
    first, second = task.places[:2]
    sha256 = run_images.subjects[first].image.image_sha256
    found = beside.ChunkScores(scores={"edge-f1": {first: Score(0.5), second: Score(0.5)}})
    piece = beside.Piece({first: sha256, second: "another image"}, found)
    EarlyScores([piece], {"edge-f1": "another recipe"}).enter([task], run_images)
    assert task.scores == {}
    EarlyScores([piece], {"edge-f1": task.recipe}).enter([task], run_images)
    assert task.scores == {first: Score(0.5)}


@pytest.fixture
def pids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let the process be a warm one; return the file of its number."""
    warm = SimpleNamespace(**{**vars(subprocess), "Popen": WarmWorker})
    monkeypatch.setattr(process, "subprocess", warm)
    path = tmp_path / "pids"
    monkeypatch.setenv(PIDS, str(path))
    yield path
    assert warm_workers(path) == []


def test_a_process_that_is_killed_leaves_the_rest_to_the_end(
    tmp_path: Path, alone: dict[str, str], pids: Path
) -> None:
    batches = Batches(tmp_path / "run")
    scoring = ScoringBeside(batches.program(), {"OMP_NUM_THREADS": "1"})
    scoring.add(batches.end_next())
    scoring.add(batches.end_next())
    while not scoring._early.pieces:
        time.sleep(0.01)
    (worker,) = warm_workers(pids)
    assert worker.nice() == 10
    worker.kill()
    while batches.left:
        scoring.add(batches.end_next())
    early = scoring.end()
    assert early.pieces and len(pids.read_text().split()) == 1
    score_by_names(batches.store, NAMES, show_progress=False, early=early)
    assert digests(batches.store) == alone


def test_it_begins_only_where_a_core_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "_n_cores", lambda: 4)
    store = RunStore(tmp_path / "run")
    monkeypatch.setattr(RunStore, "manifest", lambda self: None)
    given = {"device": "cpu", "n_images": 500, "n_cores": 3}

    def begins(**other: object) -> bool:
        found = begin_beside(store, NAMES, **{**given, **other})  # pyright: ignore[reportArgumentType]
        if found is not None:
            assert found.end() == EarlyScores()
        return found is not None

    assert begins()
    assert not begins(n_cores=4)  # all render
    assert not begins(n_cores=None)  # of a cluster
    assert not begins(n_images=20)
    assert not begins(device="cuda")
