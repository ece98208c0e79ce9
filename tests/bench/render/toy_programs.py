"""Programs without models, for tests of workers and their scheduler."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.render.engine.messages import BrokenWorkerError, Control, Opened, Program


@dataclass(frozen=True)
class Toy:
    """Answers n with 0 to n - 1; a text is an order. `folder` has a line for each order."""

    folder: Path
    seconds: float = 0.0

    def open(self, control: Control) -> Opened:
        """Count the jobs of this process."""
        served: list[Any] = []

        def work(payload: Any) -> Iterator[Any]:
            served.append(payload)
            if isinstance(payload, str):
                with (self.folder / payload).open("a") as file:
                    file.write(f"{len(served)}\n")
                yield from self._order(payload)
                return
            for i in range(payload):
                if control.stopped:
                    return
                time.sleep(self.seconds)
                yield (i, os.getpid())

        return Opened(work, {"pid": os.getpid()})

    def _order(self, order: str) -> Iterator[Any]:
        n_times = len((self.folder / order).read_text().splitlines())
        match order:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill-once" if n_times == 1:
                yield "begun"
                os.kill(os.getpid(), signal.SIGKILL)
            case "terminate" if n_times == 1:
                os.kill(os.getpid(), signal.SIGTERM)
                yield "finished"
                yield "not any more"
            case "break" if n_times == 1:
                raise BrokenWorkerError
            case "fail":
                raise UserError("a file has changed", ["a file has changed"])
            case "warn":
                logging.getLogger("bench.toy").warning("from %s", "a worker")
        yield f"{order} done"


@dataclass(frozen=True)
class Pictures:
    """Answers n with n pieces of random bytes, as fast as they are taken."""

    n_bytes: int

    def open(self, control: Control) -> Opened:
        """Make the bytes."""
        data = os.urandom(self.n_bytes)
        return Opened(lambda n: (data for _ in range(n)), {})


@dataclass(frozen=True)
class Together:
    """A program that is open once it is in all of `n` processes, which share the folder."""

    program: Program
    folder: Path
    n: int

    def open(self, control: Control) -> Opened:
        """Open the program and wait for the others."""
        opened = self.program.open(control)
        (self.folder / f"{os.getpid()}.ready").touch()
        while len([*self.folder.glob("*.ready")]) < self.n:
            time.sleep(0.01)
        return opened


class Unopened:
    """Ends its process instead of opening."""

    def open(self, control: Control) -> Opened:
        """Die."""
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Faulty:
    """Fails to open."""

    def open(self, control: Control) -> Opened:
        """Raise an error of a user."""
        raise UserError("the mapper does not fit")
