"""Ctrl-C that libraries cannot swallow: SIGINT is recorded as well as raised.

C code that calls back into Python may turn a KeyboardInterrupt into another error. Any error after
a recorded signal counts as an interruption.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """`received` is True if SIGINT arrived since the watch began."""

    def __init__(self) -> None:
        self.received = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if SIGINT was received, even if it was caught before."""
        if self.received:
            raise KeyboardInterrupt

    def receive(self, signum: int, frame: FrameType | None) -> None:
        """Record the signal and raise KeyboardInterrupt."""
        self.received = True
        raise KeyboardInterrupt


@contextmanager
def watched_interrupts() -> Iterator[Interrupts]:
    """Watch for SIGINT; any error after it is raised as KeyboardInterrupt.

    Does nothing outside the main thread, where Python delivers no signals.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = signal.signal(signal.SIGINT, interrupts.receive)
    try:
        yield interrupts
    except Exception as error:
        if interrupts.received:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
