"""A line of progress in logs, at least every half minute, where no terminal shows the bars."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from bench.cli.output import echo, is_quiet
from plugins_manifest.progress import Progress, current

SECONDS = 30.0


@contextmanager
def heartbeat(command: str) -> Iterator[None]:
    """Print on standard error what goes on, every `SECONDS`; nothing on terminals and with -q."""
    if is_quiet() or sys.stderr is None or sys.stderr.isatty():
        yield
        return
    ended = Event()
    thread = Thread(target=_beat, args=(ended, command), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _beat(ended: Event, command: str) -> None:
    started = time.monotonic()
    while not ended.wait(SECONDS):
        now = current() or Progress(command)
        if not now.silent:
            minutes, seconds = divmod(round(time.monotonic() - started), 60)
            with suppress(OSError, ValueError):  # the log's reader is gone, or it is closed
                echo(f"[{minutes}:{seconds:02}] {now}", err=True)
