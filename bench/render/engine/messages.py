"""What a worker sends to the process that owns the run, and the program that it carries out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

LEFT_CODE = 143  # of a process that SIGTERM ended: its job goes to another one, and no try counts


@dataclass(frozen=True)
class Placed:
    """The worker has a place to run and takes jobs."""


@dataclass(frozen=True)
class Ready:
    """The program is open; `facts` are those of the machine."""

    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """One piece of the answer to a job."""

    value: Any


@dataclass(frozen=True)
class Done:
    """The answer is complete."""


@dataclass(frozen=True)
class Left:
    """The worker ended in order, before its job was done."""


@dataclass(frozen=True)
class Died:
    """The worker's process ended; the reason is a text such as "ended by SIGKILL"."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """An error that ends the run; `trace` is the worker's traceback."""

    error: BaseException
    trace: str


@dataclass(frozen=True)
class Logged:
    """A line of the worker's log."""

    name: str
    level: int
    text: str


Message = Placed | Ready | Result | Done | Left | Died | Failed | Logged


@dataclass
class Control:
    """What reaches a program while it works; `stopped` is set once its answer may end early."""

    on_stop: Callable[[], None] = field(default=lambda: None)
    stopped: bool = False

    def stop(self) -> None:
        """End the job in progress early, where the program allows it."""
        self.stopped = True
        self.on_stop()


class BrokenWorkerError(Exception):
    """The process can do no more work, such as after an error that a GPU does not recover from."""


@dataclass(frozen=True)
class Opened:
    """An open program: `work` maps a job's payload to the pieces of its answer."""

    work: Callable[[Any], Iterator[Any]]
    facts: Mapping[str, Any]


class Program(Protocol):
    """What a worker does; it is pickled. An error of `open` or of the work ends the run."""

    def open(self, control: Control) -> Opened:
        """Load what all jobs need."""
        ...
