"""A deadline for code that may hang: an exception where Python runs, else the end of the process.

SIGALRM interrupts the main thread wherever it runs Python code, also while it sleeps or waits. Code
that does not return to Python is not interrupted: a thread ends the process, and if the
interpreter itself is locked, a second process kills it. Neither ends with the code of a verdict.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_MIN_GRACE_S, _MAX_GRACE_S = 2.0, 30.0
_EXIT_CODE = 70  # as for a crash
# The guard ends with its standard input, so it never outlives what it guards.
_GUARD = """
import os, signal, sys, threading, time
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
time.sleep(float(sys.argv[1]))
os.write(2, sys.argv[3].encode())
os.kill(int(sys.argv[2]), getattr(signal, "SIGKILL", signal.SIGTERM))
"""


class DeadlineError(BaseException):
    """The time is up. Not an `Exception`, so that code which catches those cannot go on."""


class Deadline:
    """The time that one piece of work may take; `seconds` None: no limit.

    `what` names the work in the message that ends the process. The time counts inside of `running`
    alone.
    """

    def __init__(self, seconds: float | None, *, what: str) -> None:
        self._left_s = seconds
        self._what = what
        self.reason = f"no result within {seconds:g} s (--batch-timeout)" if seconds else ""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Raise `DeadlineError` inside the context when the time is up."""
        if self._left_s is None:
            yield
            return
        started = time.monotonic()
        grace_s = min(max(self._left_s, _MIN_GRACE_S), _MAX_GRACE_S)
        ending = threading.Timer(self._left_s + grace_s, self._end_process)
        ending.daemon = True
        before = _arm(self._left_s)
        ending.start()
        try:
            with self._guarded(self._left_s + 2 * grace_s):
                yield
        finally:
            _disarm(before)
            ending.cancel()
            self._left_s = max(self._left_s - (time.monotonic() - started), 1e-3)

    @contextmanager
    def _guarded(self, seconds: float) -> Iterator[None]:
        """Have another process kill this one, should the context take longer."""
        command = [sys.executable, "-I", "-S", "-c", _GUARD, str(seconds), str(os.getpid())]
        faulthandler.dump_traceback_later(seconds, file=sys.__stderr__ or sys.stderr)
        with subprocess.Popen([*command, self._last_words()], stdin=subprocess.PIPE) as guard:
            try:
                yield
            finally:
                guard.kill()
                faulthandler.cancel_dump_traceback_later()

    def _last_words(self) -> str:
        return (
            f"\nError: {self._what}: {self.reason}, and it cannot be interrupted, so the process "
            "ends. Everything finished is kept: run the same command again to go on, without what "
            "hangs.\n"
        )

    def _end_process(self) -> None:
        """End the process without cleaning up: the work holds what cleaning up would wait for."""
        sys.stderr.write(self._last_words())
        sys.stderr.flush()
        os._exit(_EXIT_CODE)


def _arm(seconds: float) -> object:
    """Start the alarm; outside of the main thread, and without signals, there is none."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "setitimer"):
        return None
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    return before


def _disarm(before: object) -> None:
    if before is not None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)  # pyright: ignore[reportArgumentType]


def _ring(signum: int, frame: FrameType | None) -> None:
    raise DeadlineError
