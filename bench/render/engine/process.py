"""A worker's process as its starter has it: give it jobs, receive its messages, end it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from bench.render.engine.messages import LEFT_CODE, Died, Left, Message, Program

_GRACE_SECONDS = 5.0  # for a process whose starter has hung up


class WorkerProcess:
    """A process with a program of its own; `variables` are added to its environment."""

    def __init__(self, program: Program, variables: Mapping[str, str], *, level: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "bench.render.engine.serve"]
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal is not for it
            )
        self._connection = Connection(ours.detach())
        self._send((level, program))

    @property
    def connection(self) -> Connection:
        """What is readable once there is a message."""
        return self._connection

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def give(self, payload: Any) -> None:
        """Begin a job."""
        self._send(("job", payload))

    def stop(self) -> None:
        """End the job in progress early, after what its program has to finish."""
        self._send(("stop", None))

    def leave(self) -> None:
        """End the process after the piece in progress."""
        self._process.terminate()

    def receive(self) -> Message:
        """Wait for a message; the last one is that the process has ended."""
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            return Left() if code in (LEFT_CODE, -signal.SIGTERM) else Died(_reason(code))

    def close(self) -> None:
        """End the process, whatever it does."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS)
            return
        self._process.kill()
        self._process.wait()

    def _send(self, message: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # `receive` returns how it ended
            self._connection.send(message)


def log_level() -> int:
    """Return the level of the log that workers send."""
    return logging.getLogger("bench").getEffectiveLevel()


def _reason(code: int) -> str:
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
