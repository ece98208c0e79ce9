"""A line of progress in logs, at least every half minute, where no terminal shows the bars.

Every command is inside `heartbeat`, and its thread prints the line: no stage can forget it. Torch,
files and networks let Python's threads run while they work; nothing here holds the interpreter.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import click

from bench.cli.output import echo, is_quiet
from plugins_manifest.progress import current, status

SECONDS = 25.0  # less than the promised 30, as a busy machine delays the thread


@contextmanager
def heartbeat(context: click.Context) -> Iterator[None]:
    """Print on standard error what goes on, every `SECONDS`; nothing on terminals and with -q.

    Where no stage has a name, the line is the context's command alone.
    """
    if is_quiet() or sys.stderr is None or sys.stderr.isatty():
        yield
        return
    ended = Event()
    thread = Thread(target=_beat, args=(ended, context), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _beat(ended: Event, context: click.Context) -> None:
    started = time.monotonic()
    while not ended.wait(SECONDS):
        line = status() if current() else f"xbench {context.invoked_subcommand or ''}"
        if line:
            minutes, seconds = divmod(round(time.monotonic() - started), 60)
            with suppress(OSError, ValueError):  # the log's reader is gone, or it is closed
                echo(f"[{minutes}:{seconds:02}] {line}", err=True)
