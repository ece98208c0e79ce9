"""Give jobs to workers, one call in flight for each, and survive the death of any of them.

A job whose worker died goes to the end of the queue; after its second death it runs alone, in a
process that has done nothing else; the third one gives it up, and the other jobs go on.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.errors import UserError
from bench.render.engine.messages import (
    Died,
    Done,
    Failed,
    Left,
    Logged,
    Message,
    Placed,
    Ready,
    Result,
)

PATIENCE_SECONDS = 120.0  # without any worker
_TICK_SECONDS = 0.5
_DEATHS_BEFORE_ALONE, _MOST_DEATHS = 2, 3
_MOST_FAILED_STARTS = 3
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A piece of work for one worker.

    `payload` is made when the job is given to a worker, again after each death, so that it can
    leave out what is there by then. A worker prefers jobs of the `affinity` that it had last.
    """

    key: str
    payload: Callable[[], Any]
    cost: float = 1.0
    affinity: Hashable = None


@dataclass(frozen=True)
class Item:
    """A piece of a job's answer."""

    key: str
    value: Any


@dataclass(frozen=True)
class Ended:
    """A job whose answer is complete, or as complete as the stop allowed."""

    key: str


@dataclass(frozen=True)
class Lost:
    """A job that ended each of its workers."""

    key: str
    reason: str


Event = Item | Ended | Lost


class Worker(Protocol):
    """A worker as a transport starts it."""

    def give(self, payload: Any) -> None:
        """Begin a job; its messages end with Done, Left, Died or Failed."""
        ...

    def stop(self) -> None:
        """End the job in progress early."""
        ...

    def close(self) -> None:
        """End the worker at once and free its place."""
        ...


class Transport(Protocol):
    """Starts workers and receives their messages."""

    def size(self) -> int:
        """Return how many workers there may be now."""
        ...

    def start(self) -> Worker:
        """Start a worker, which waits for a place."""
        ...

    def wait(self, seconds: float) -> Sequence[tuple[Worker, Message]]:
        """Return the messages that arrive within the seconds, as soon as there are any."""
        ...

    def shortage(self) -> str:
        """Return why no worker has a place: what is needed, and what there is."""
        ...

    def close(self) -> None:
        """Free everything besides the workers."""
        ...


@dataclass
class _Seat:
    """A worker with what the scheduler knows of it."""

    worker: Worker
    is_placed: bool = False
    is_ready: bool = False
    job: Job | None = None
    n_jobs: int = 0
    affinity: Hashable = None


@dataclass
class Scheduler:
    """The loop over all workers; `on_ready` receives the facts of each one, and may refuse it."""

    transport: Transport
    on_ready: Callable[[Mapping[str, Any]], None] = lambda facts: None
    _seats: dict[Worker, _Seat] = field(default_factory=dict)
    _queue: deque[Job] = field(default_factory=deque)
    _deaths: Counter[str] = field(default_factory=Counter)
    _n_failed_starts: int = 0
    _is_stopped: bool = False
    _placed_at: float = 0.0  # when no worker waited for a place last
    _is_short: bool = False

    def run(
        self, jobs: Sequence[Job], *, is_stopped: Callable[[], bool]
    ) -> Generator[Event, None, None]:
        """Yield what the workers answer, until each job has ended or is lost.

        Once `is_stopped`, no job begins, and those in progress end early. Whatever ends the
        iterator ends all workers.
        """
        self._queue.extend(sorted(jobs, key=lambda job: -job.cost))
        self._placed_at = time.monotonic()
        try:
            while self._queue or self._n_busy:
                if is_stopped():
                    self._stop()
                self._start_workers()
                self._give_jobs()
                for worker, message in self.transport.wait(_TICK_SECONDS):
                    if (seat := self._seats.get(worker)) is not None:
                        yield from self._received(seat, message)
                self._require_places()
        finally:
            self.close()

    def close(self) -> None:
        """End all workers."""
        for worker in [*self._seats]:
            self._remove(worker)
        self.transport.close()

    @property
    def _n_busy(self) -> int:
        return sum(seat.job is not None for seat in self._seats.values())

    def _stop(self) -> None:
        self._queue.clear()
        if not self._is_stopped:
            self._is_stopped = True
            for seat in self._seats.values():
                if seat.job is not None:
                    seat.worker.stop()

    def _start_workers(self) -> None:
        wanted = min(self.transport.size(), len(self._queue) + self._n_busy)
        while len(self._seats) < wanted:
            worker = self.transport.start()
            self._seats[worker] = _Seat(worker)

    def _give_jobs(self) -> None:
        for seat in [*self._seats.values()]:
            if not self._queue:
                return
            if seat.is_placed and seat.job is None:
                self._give(seat)

    def _give(self, seat: _Seat) -> None:
        """Give the next job to a worker; one that has to run alone needs a new worker."""
        alike = (job for job in self._queue if self._is_alike(job, seat))
        job = next(alike, self._queue[0])
        if self._deaths[job.key] >= _DEATHS_BEFORE_ALONE and seat.n_jobs:
            self._remove(seat.worker)
            return
        self._queue.remove(job)
        payload = job.payload()
        seat.job, seat.affinity, seat.n_jobs = job, job.affinity, seat.n_jobs + 1
        seat.worker.give(payload)

    def _is_alike(self, job: Job, seat: _Seat) -> bool:
        return seat.n_jobs > 0 and job.affinity == seat.affinity and not self._deaths[job.key]

    def _received(self, seat: _Seat, message: Message) -> Iterator[Event]:
        job = seat.job
        match message:
            case Placed():
                seat.is_placed = True
            case Ready(facts):
                seat.is_ready, self._n_failed_starts = True, 0
                self.on_ready(facts)
            case Logged(name, level, text):
                logging.getLogger(name).log(level, "%s", text)
            case Failed(error, trace):
                error.add_note(f"in a worker:\n{trace}")
                raise error
            case Result(value) if job is not None:
                yield Item(job.key, value)
            case Done() if job is not None:
                seat.job = None
                yield Ended(job.key)
            case Left():
                self._remove(seat.worker)
                if job is not None:
                    _LOG.info("a worker left; %s goes to another one", job.key)
                    yield from self._again(job, is_next=True)
            case Died(reason):
                self._remove(seat.worker)
                yield from self._died(seat, job, reason)

    def _died(self, seat: _Seat, job: Job | None, reason: str) -> Iterator[Event]:
        if not seat.is_ready:
            _LOG.warning("a worker %s before it was ready", reason)
            self._n_failed_starts += 1
            if self._n_failed_starts >= _MOST_FAILED_STARTS:
                raise UserError(
                    f"{_MOST_FAILED_STARTS} workers in a row ended before they were ready, the "
                    f"last one {reason}: is there memory for all of them? try fewer workers"
                )
        if job is None:
            return
        if not seat.is_ready:
            yield from self._again(job, is_next=True)
            return
        self._deaths[job.key] += 1
        n = self._deaths[job.key]
        _LOG.warning("a worker %s in %s (%d of %d)", reason, job.key, n, _MOST_DEATHS)
        if n >= _MOST_DEATHS:
            yield Lost(job.key, f"its worker {reason}, {n} times")
        else:
            yield from self._again(job, is_next=False)

    def _again(self, job: Job, *, is_next: bool) -> Iterator[Event]:
        """Queue a job again; one that was to stop anyway has ended."""
        if self._is_stopped:
            yield Ended(job.key)
        elif is_next:
            self._queue.appendleft(job)
        else:
            self._queue.append(job)

    def _remove(self, worker: Worker) -> None:
        self._seats.pop(worker).worker.close()

    def _require_places(self) -> None:
        """Raise `UserError` if no worker gets a place; warn if only some do."""
        now = time.monotonic()
        waiting = [seat for seat in self._seats.values() if not seat.is_placed]
        if not waiting or not self._queue:
            self._placed_at = now
        elif now - self._placed_at > PATIENCE_SECONDS:
            shortage = self.transport.shortage()
            if len(waiting) == len(self._seats):
                raise UserError(f"no worker has a place after {PATIENCE_SECONDS:g} s: {shortage}")
            if not self._is_short:
                self._is_short = True
                _LOG.warning("%d workers wait for a place: %s", len(waiting), shortage)
