"""Chunks that workers score: real processes, really killed, and a real Ray cluster."""

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench.render.engine.choice import Workers
from bench.render.engine.messages import Control, Opened
from bench.scoring import score, score_by_names
from bench.scoring.chunks import CHUNK, ScoreProgram
from bench.scoring.score import read_scores
from bench.scoring.workers import is_shared, processes_here
from bench.store import RunStore
from tests.bench.drawn_run import draw_run
from tests.bench.scoring.test_work import digests

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[3]
NAMES = ("edge-f1", "pocket-style")  # of pixels, and of features of the whole run
RAY = {
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_worker_niceness": "0",  # else workers wait for the tests of other processes
}


@dataclass(frozen=True)
class Poisoned(ScoreProgram):
    """Ends its process in the first chunk."""

    def open(self, control: Control) -> Opened:
        def work(chunk: Sequence[int]) -> Iterator[object]:
            if chunk[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            yield from super(Poisoned, self).open(control).work(chunk)

        return Opened(work, {})


@dataclass(frozen=True)
class Elsewhere(ScoreProgram):
    """Finds another run in the folder on a cluster's node."""

    def open(self, control: Control) -> Opened:
        run_id = "another" if "RAY_RAYLET_PID" in os.environ else self.run_id
        return super(Elsewhere, replace(self, run_id=run_id)).open(control)


@pytest.fixture
def drawn(tmp_path: Path) -> RunStore:
    """Return a run of two chunks without scores."""
    return draw_run(tmp_path / "drawn", n_cases=6, natives=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """Return the same run as this process scores it."""
    store = draw_run(tmp_path_factory.mktemp("alone") / "drawn", n_cases=6, natives=True)
    score_by_names(store, NAMES, show_progress=False)
    return store


@pytest.fixture(autouse=True)
def programs_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers find the programs above."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Return the address of a Ray cluster of one node."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in RAY.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", str(ROOT))
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 2**27}
        found = Cluster(initialize_head=True, head_node_args=node)
        yield str(found.address)
        found.shutdown()


def test_a_chunk_that_ends_its_workers_has_no_scores_and_all_others_have(
    drawn: RunStore, alone: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "ScoreProgram", Poisoned)
    score_by_names(drawn, NAMES[:1], show_progress=False, workers=Workers(count=2))
    why = "its worker ended by SIGKILL, 3 times"
    found, whole = (
        [row for row in read_scores(store) if row["metric"] == NAMES[0]] for store in (drawn, alone)
    )
    lost = [row["reason"] == why for row in found]
    assert 0 < sum(lost) <= CHUNK and not all(lost)
    for row, other, is_lost in zip(found, whole, lost, strict=True):
        assert row["value"] is None if is_lost else row["value"] == other["value"]
    monkeypatch.undo()
    score_by_names(drawn, NAMES, show_progress=False)
    assert digests(drawn) == digests(alone)


def test_scores_of_a_cluster_equal_those_of_one_process(
    drawn: RunStore,
    alone: RunStore,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    monkeypatch.setattr("bench.scoring.workers.LocalTransport", None)  # not this machine's
    score_by_names(drawn, NAMES, show_progress=False, workers=Workers("ray", 2))
    assert digests(drawn) == digests(alone)
    assert caplog.text == ""


def test_this_machine_scores_where_a_node_lacks_the_run(
    drawn: RunStore,
    alone: RunStore,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    monkeypatch.setattr(score, "ScoreProgram", Elsewhere)
    with caplog.at_level(logging.WARNING):
        score_by_names(drawn, NAMES, show_progress=False, workers=Workers("ray", 1))
    lines = [r.getMessage() for r in caplog.records if r.name == "bench.scoring.workers"]
    assert len(lines) == 1
    assert lines[0].startswith("scoring on this machine: ")
    assert "does not have the run's folder" in lines[0]
    assert digests(drawn) == digests(alone)


@pytest.mark.parametrize(
    ("workers", "gpus"),
    [
        (Workers(), [""]),
        (Workers(count="auto"), ["4", "5"]),
        (Workers(devices=("1", "1")), ["5", "5"]),
        (Workers(devices=("cpu", "cpu")), ["4", "5"]),
    ],
)
def test_processes_take_the_gpus_of_devices_or_all_in_turn(
    workers: Workers, gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.scoring.workers.visible_gpus", lambda: ["4", "5"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {*range(8)})
    program = ScoreProgram(Path(), None, NAMES, "cuda", threads=8)
    shared = is_shared(workers, program.device, n_chunks=1)
    places = processes_here(workers, program) if shared else [{}]
    assert [place.get("CUDA_VISIBLE_DEVICES", "") for place in places] == gpus
    assert {place.get("OMP_NUM_THREADS", "") for place in places} == ({"4"} if shared else {""})
