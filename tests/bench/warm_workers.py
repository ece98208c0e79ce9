"""`xbench` with workers that are forks of the warm server, as the command itself is one.

A worker is the process of a run without tests but for its start: it needs no seconds to import
torch. Those on a Ray cluster are new interpreters, as in a run without tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from bench.cli.main import main
from bench.render.engine import process
from tests.warm import WarmProcess

PIDS = "XBENCH_TEST_WORKERS"  # the file that has the number of each worker
WORKERS_BEGIN = "XBENCH_TEST_WORKERS_BEGIN"  # code that each worker runs first
COMMAND = "from tests.bench.warm_workers import run; run()"


class WarmWorker(WarmProcess):
    """In place of `subprocess.Popen` as a worker's starter calls it."""

    def __init__(
        self, command: Sequence[str], *, pass_fds: Sequence[int], env: Mapping[str, str], **_: Any
    ) -> None:
        (number,), module = pass_fds, command[command.index("-m") + 1]
        code = f"{env.get(WORKERS_BEGIN, '')}\nimport runpy\n"
        code += f"runpy.run_module({module!r}, run_name='__main__')"
        with Connection(os.dup(number)) as connection:
            super().__init__(code, env=env, connection=connection)
        with Path(env[PIDS]).open("a") as file:
            file.write(f"{self.pid}\n")


def run() -> None:
    """Be the command of `sys.argv`."""
    process.subprocess = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
        Popen=WarmWorker, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )
    main(sys.argv[1:])


def warm_workers(pids: Path) -> list[psutil.Process]:
    """Return the workers of the file that are running."""
    found = []
    for pid in pids.read_text().split() if pids.is_file() else []:
        with suppress(psutil.Error):
            one = psutil.Process(int(pid))
            is_fork = "multiprocessing.forkserver" in " ".join(one.cmdline())
            found += [one] if is_fork and one.status() != psutil.STATUS_ZOMBIE else []
    return found
