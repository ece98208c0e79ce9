"""The process of a worker: it opens a program and answers one job at a time, in pieces.

It is connected by a socket with the process that started it, and ends with it. SIGTERM lets it
finish the piece in progress. Usage: python -m bench.render.engine.serve DESCRIPTOR
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from bench.render.engine.messages import (
    LEFT_CODE,
    BrokenWorkerError,
    Control,
    Done,
    Failed,
    Logged,
    Message,
    Program,
    Ready,
    Result,
)

BROKEN_CODE = 71


class _Server:
    """The worker's end of the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.RLock()
        self._jobs: SimpleQueue[Any] = SimpleQueue()
        self._control = Control()
        self._is_busy, self._leaves = False, False

    def run(self) -> None:
        """Serve until the other side is gone."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that owns the run
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._leave)
        try:
            level, program = self._connection.recv()
            _log_to(self, level)
            threading.Thread(target=self._listen, daemon=True).start()
            self._serve(program)
        except EOFError:
            os._exit(0)
        except BrokenWorkerError:
            os._exit(BROKEN_CODE)
        except BaseException as error:  # noqa: BLE001 (whatever it is, it is reported there)
            self.send(Failed(_portable(error), "".join(traceback.format_exception(error))))

    def _serve(self, program: Program) -> None:
        opened = program.open(self._control)
        self.send(Ready(opened.facts))
        while True:
            payload = self._jobs.get()
            self._is_busy = True
            for value in opened.work(payload):
                self.send(Result(value))
                if self._leaves:
                    os._exit(LEFT_CODE)
            self.send(Done())
            self._is_busy = False
            if self._leaves:
                os._exit(LEFT_CODE)

    def send(self, message: Message) -> None:
        """Send a message, from any thread."""
        with self._sending:
            self._connection.send(message)

    def _listen(self) -> None:
        """Take jobs and the order to stop; end the process with the other side."""
        try:
            while True:
                kind, payload = self._connection.recv()
                if kind == "stop":
                    self._control.stop()
                else:
                    self._jobs.put(payload)
        except (EOFError, OSError):
            os._exit(0)

    def _leave(self, *_: object) -> None:
        self._leaves = True
        if not self._is_busy:
            os._exit(LEFT_CODE)


class _Forwarded(logging.Handler):
    """Sends the log to the process that owns the run."""

    def __init__(self, server: _Server) -> None:
        super().__init__()
        self._server = server

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record as text."""
        self._server.send(Logged(record.name, record.levelno, self.format(record)))


def _log_to(server: _Server, level: int) -> None:
    logging.basicConfig(level=level, handlers=[_Forwarded(server)], format="%(message)s")


def _portable(error: BaseException) -> BaseException:
    """Return the error if it can be pickled there and back, else one with its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 (classes of others may do anything)
        return RuntimeError("".join(traceback.format_exception_only(error)).strip())
    return error


if __name__ == "__main__":
    _Server(Connection(int(sys.argv[1]))).run()
