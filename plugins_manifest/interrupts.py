"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP are recorded as well as raised.

C code that calls back into Python may turn a KeyboardInterrupt into another error. Any error after
a recorded signal counts as an interruption.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
# Shells, terminals and `timeout` send one signal to the process and to its group: it arrives twice.
_SAME_SIGNAL_SECONDS = 0.25


class Interrupts:
    """`signum` is the first signal that arrived since the watch began."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._arrived = 0.0
        self._is_held = False

    @property
    def received(self) -> bool:
        """Return whether a signal arrived."""
        return self.signum is not None

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells count: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP."""
        return 128 + (signal.SIGINT if self.signum is None else self.signum)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal was received, even if it was caught before."""
        if self.received:
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Record a first signal without raising: for work that must not stop halfway."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False

    @contextmanager
    def released(self) -> Iterator[None]:
        """Inside of `held`, raise at a signal again: for work that may stop halfway."""
        self.check()
        was_held, self._is_held = self._is_held, False
        try:
            yield
        finally:
            self._is_held = was_held

    def receive(self, signum: int, frame: FrameType | None) -> None:
        """Record the signal and raise KeyboardInterrupt; end the process at the second signal."""
        now = time.monotonic()
        if self.signum is None:
            self.signum, self._arrived = signum, now
            if not self._is_held:
                raise KeyboardInterrupt
        elif now - self._arrived > _SAME_SIGNAL_SECONDS:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)


@contextmanager
def watched_interrupts() -> Iterator[Interrupts]:
    """Watch for signals; any error after one is raised as KeyboardInterrupt.

    Inside another watch, that one goes on. Signals that are ignored (`nohup`) stay ignored. Does
    nothing outside the main thread, where Python delivers no signals.
    """
    before = {s: signal.getsignal(s) for s in SIGNALS}
    outer = getattr(before[signal.SIGINT], "__self__", None)
    interrupts = outer if isinstance(outer, Interrupts) else Interrupts()
    is_main = threading.current_thread() is threading.main_thread()
    watched = [s for s, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    if is_main and interrupts is not outer:
        for signum in watched:
            signal.signal(signum, interrupts.receive)
    try:
        yield interrupts
    except Exception as error:
        if interrupts.received:
            raise KeyboardInterrupt from error
        raise
    finally:
        if is_main and interrupts is not outer:
            for signum in watched:
                signal.signal(signum, before[signum])


@contextmanager
def hangup_as_termination() -> Iterator[None]:
    """Deliver SIGHUP as SIGTERM: a web server ends in order on that one alone."""
    signum = getattr(signal, "SIGHUP", None)
    is_main = threading.current_thread() is threading.main_thread()
    if signum is None or not is_main or signal.getsignal(signum) in (signal.SIG_IGN, None):
        yield
        return
    before = signal.signal(signum, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signum, before)
