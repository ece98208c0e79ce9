"""Workers on this machine: a process for each device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

from bench.render.engine.messages import Message, Placed, Program
from bench.render.engine.process import WorkerProcess, log_level


class _Local(WorkerProcess):
    """A worker process in one of the places."""

    def __init__(self, transport: LocalTransport, place: int) -> None:
        variables = transport.places[place]
        super().__init__(transport.program, variables, level=log_level())
        self.place = place
        self._transport = transport

    def close(self) -> None:
        """End the process and free its place."""
        super().close()
        self._transport.running.remove(self)


@dataclass
class LocalTransport:
    """Starts a process for each of `places`, which are the variables of its environment."""

    program: Program
    places: Sequence[Mapping[str, str]]
    running: list[_Local] = field(default_factory=list)
    _new: list[_Local] = field(default_factory=list)

    def size(self) -> int:
        """Return the number of places."""
        return len(self.places)

    def start(self) -> _Local:
        """Start a process in a free place."""
        taken = {worker.place for worker in self.running}
        worker = _Local(self, next(i for i in range(len(self.places)) if i not in taken))
        self.running.append(worker)
        self._new.append(worker)
        return worker

    def wait(self, seconds: float) -> Sequence[tuple[_Local, Message]]:
        """Return a message of each process that has any, as soon as one has."""
        if self._new:
            placed, self._new = self._new, []
            return [(worker, Placed()) for worker in placed]
        found: list[Any] = wait([worker.connection for worker in self.running], seconds)
        ready = [worker for worker in self.running if worker.connection in found]
        return [(worker, worker.receive()) for worker in ready]

    def shortage(self) -> str:
        """Return nothing that helps: processes have their places at once."""
        return f"{len(self.running)} of {len(self.places)} processes run"

    def close(self) -> None:
        """Free nothing: the processes are closed one by one."""
