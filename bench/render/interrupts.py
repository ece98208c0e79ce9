"""Ctrl-C that no library can swallow: the signal is remembered as well as raised.

Code that calls Python back from C may turn a KeyboardInterrupt into another error. What happens
after a remembered signal is an interruption, whatever it looks like.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Whether Ctrl-C came since the watch began."""

    def __init__(self) -> None:
        self.came = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if it came, also when somebody caught it before."""
        if self.came:
            raise KeyboardInterrupt

    def receive(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.came = True
        raise KeyboardInterrupt


@contextmanager
def watched_interrupts() -> Iterator[Interrupts]:
    """Watch for Ctrl-C; any error after it leaves as KeyboardInterrupt.

    Outside the main thread, where Python delivers no signals, nothing is watched.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = signal.signal(signal.SIGINT, interrupts.receive)
    try:
        yield interrupts
    except Exception as error:
        if interrupts.came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
