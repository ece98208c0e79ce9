"""Workers as processes: each job is answered once, whatever happens to its workers."""

import logging
import os
import random
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.render.engine import scheduler
from bench.render.engine.local import LocalTransport
from bench.render.engine.messages import Program
from bench.render.engine.scheduler import Ended, Event, Item, Job, Lost, Scheduler
from tests.bench.render.toy_programs import Faulty, Toy, Unopened

ROOT = Path(__file__).parents[3]


def job(payload: Any, *, key: str = "", cost: float = 1.0, affinity: str | None = None) -> Job:
    return Job(key or str(payload), lambda: payload, cost=cost, affinity=affinity)


def events(
    program: Program,
    jobs: Sequence[Job],
    *,
    n_workers: int = 2,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    transport = LocalTransport(program, [{"PYTHONPATH": str(ROOT)}] * n_workers)
    yield from Scheduler(transport).run(jobs, is_stopped=is_stopped)
    assert transport.running == []


def answers(found: Sequence[Event]) -> dict[str, list[Any]]:
    by_key = defaultdict(list)
    for event in found:
        if isinstance(event, Item):
            by_key[event.key].append(event.value)
    return dict(by_key)


def lines(folder: Path, order: str) -> list[str]:
    return (folder / order).read_text().split()


def test_each_job_is_answered_in_order_by_one_process(tmp_path: Path) -> None:
    jobs = [job(5, key=f"job {i}") for i in range(6)]
    found = list(events(Toy(tmp_path, seconds=0.01), jobs))
    for values in answers(found).values():
        assert [i for i, _ in values] == [0, 1, 2, 3, 4]
        assert len({pid for _, pid in values}) == 1
    assert sorted(e.key for e in found if isinstance(e, Ended)) == sorted(j.key for j in jobs)
    assert len({pid for values in answers(found).values() for _, pid in values}) == 2


def test_the_costliest_job_is_first_and_then_its_own_kind(tmp_path: Path) -> None:
    given = [("a1", 1.0, "a"), ("b2", 2.0, "b"), ("a3", 3.0, "a"), ("b1", 0.5, "b")]
    jobs = [job(1, key=key, cost=cost, affinity=kind) for key, cost, kind in given]
    found = list(events(Toy(tmp_path), jobs, n_workers=1))
    assert [e.key for e in found if isinstance(e, Ended)] == ["a3", "a1", "b2", "b1"]


def test_nothing_is_lost_when_workers_are_killed_at_random_moments(tmp_path: Path) -> None:
    rng, kills = random.Random(0), 0
    jobs = [job(8, key=f"job {i}") for i in range(12)]
    given: defaultdict[str, set[int]] = defaultdict(set)
    ended: list[str] = []
    for event in events(Toy(tmp_path, seconds=0.005), jobs):
        match event:
            case Item(key, (i, pid)):
                given[key].add(i)
                if kills < 4 and rng.random() < 0.2:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
            case Ended(key):
                ended.append(key)
    assert kills == 4
    assert sorted(ended) == sorted(j.key for j in jobs)
    assert all(found == set(range(8)) for found in given.values())


def test_a_job_that_kills_its_workers_is_lost_and_the_rest_is_done(tmp_path: Path) -> None:
    jobs = [job("kill", cost=9), *(job(2, key=f"job {i}") for i in range(4))]
    found = list(events(Toy(tmp_path), jobs))
    assert [e.reason for e in found if isinstance(e, Lost)] == [
        "its worker ended by SIGKILL, 3 times"
    ]
    assert sum(isinstance(e, Ended) for e in found) == 4
    assert len(lines(tmp_path, "kill")) == 3
    assert lines(tmp_path, "kill")[-1] == "1"  # the last time alone, in a new process


def test_a_job_goes_on_after_one_death_with_what_is_left_of_it(tmp_path: Path) -> None:
    payloads = iter(["kill-once", 1])
    found = list(events(Toy(tmp_path), [Job("job", lambda: next(payloads))]))
    assert [v if isinstance(v, str) else v[0] for v in answers(found)["job"]] == ["begun", 0]
    assert isinstance(found[-1], Ended)


def test_sigterm_finishes_the_piece_and_counts_no_death(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = list(events(Toy(tmp_path), [job("terminate")], n_workers=1))
    assert answers(found)["terminate"] == ["finished", "terminate done"]
    assert caplog.text == ""


def test_a_broken_process_is_replaced(tmp_path: Path) -> None:
    found = list(events(Toy(tmp_path), [job("break")], n_workers=1))
    assert answers(found)["break"] == ["break done"]


def test_a_stop_ends_jobs_in_progress_and_begins_no_other(tmp_path: Path) -> None:
    found: list[Event] = []
    jobs = [job(1000, key=f"job {i}") for i in range(5)]
    stopped = lambda: len(found) > 10  # noqa: E731
    for event in events(Toy(tmp_path, seconds=0.005), jobs, is_stopped=stopped):
        found.append(event)
    assert 1 <= sum(isinstance(e, Ended) for e in found) <= 2
    assert len(found) < 500


def test_an_error_of_the_program_ends_all_workers(tmp_path: Path) -> None:
    jobs = [job("fail"), job(1000)]
    with pytest.raises(UserError, match="a file has changed") as raised:
        list(events(Toy(tmp_path, seconds=0.005), jobs))
    assert raised.value.problems == ("a file has changed",)
    with pytest.raises(UserError, match="the mapper does not fit"):
        list(events(Faulty(), [job(1)]))


def test_workers_that_never_become_ready_are_one_message() -> None:
    with pytest.raises(UserError, match="3 workers in a row ended before they"):
        list(events(Unopened(), [job(1), job(2)]))


class Crowded(LocalTransport):
    """Has no place for its workers."""

    def wait(self, seconds: float) -> list[Any]:
        return []

    def shortage(self) -> str:
        return "2 GPUs were demanded, there are 0"


def test_a_demand_that_cannot_be_met_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "PATIENCE_SECONDS", 0.05)
    transport = Crowded(Toy(tmp_path), [{"PYTHONPATH": str(ROOT)}] * 2)
    with pytest.raises(UserError, match=r"no worker has a place .* 2 GPUs were demanded"):
        list(Scheduler(transport).run([job(1), job(2)], is_stopped=lambda: False))
    assert transport.running == []


def test_warnings_of_workers_are_logged_here(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        list(events(Toy(tmp_path), [job("warn")]))
    assert ("bench.toy", logging.WARNING, "from a worker") in caplog.record_tuples
