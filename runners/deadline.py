"""A deadline for code that may hang: an exception where Python runs, else the end of the process.

SIGALRM interrupts the main thread wherever it runs Python code, also while it sleeps or waits. Code
that does not return to Python is not interrupted: a thread ends the process, and if the
interpreter itself is locked, `faulthandler` does.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_MIN_GRACE_S, _MAX_GRACE_S = 2.0, 30.0
_EXIT_CODE = 1  # as for failed trials


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
        faulthandler.dump_traceback_later(
            self._left_s + 2 * grace_s, exit=True, file=sys.__stderr__ or sys.stderr
        )
        try:
            yield
        finally:
            _disarm(before)
            ending.cancel()
            faulthandler.cancel_dump_traceback_later()
            self._left_s = max(self._left_s - (time.monotonic() - started), 1e-3)

    def _end_process(self) -> None:
        """End the process without cleaning up: the work holds what cleaning up would wait for."""
        sys.stderr.write(
            f"\nError: {self._what}: {self.reason}, and it cannot be interrupted, so the process "
            "ends. Everything finished is kept: run the same command again to go on, without what "
            "hangs.\n"
        )
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
