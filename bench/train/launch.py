"""Start a training in several processes of this machine, as `accelerate launch` does.

The processes are the same command with the variables of `torchrun`. Signals are passed on once, and
the processes end with this one, whatever ends it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from bench.errors import UserError
from plugins_manifest.interrupts import watched_interrupts
from plugins_manifest.progress import Progress

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0  # for the others, when one has failed
_SHOWN_CHARACTERS = 4_000
_LIBC = ctypes.CDLL(None)
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


class LaunchError(UserError):
    """A process of the training failed."""


def launch(words: Sequence[str], *, n_processes: int) -> int:
    """Run `xbench` with these words in processes that train together; return the exit code.

    Rank 0 writes to this process's output. A failure of another rank is raised as `LaunchError`,
    with the end of what it printed.
    """
    port = _free_port()
    processes: list[subprocess.Popen[bytes]] = []
    # silent: rank 0 prints what is being done
    bar = Progress("training in several processes", silent=True)
    with watched_interrupts() as interrupts, tempfile.TemporaryFile() as log:
        with interrupts.held(), bar:
            for rank in range(n_processes):
                processes.append(_started(words, rank, n_processes, port=port, log=log))
            passed_on = False
            while _runs_well(processes):
                if interrupts.received and not passed_on:
                    _signal(processes, interrupts.signum or signal.SIGTERM)
                    passed_on = True
                time.sleep(_POLL_SECONDS)
            _end(processes)
        return _exit_code(processes, log)


def _runs_well(processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Return whether some process still runs and none has failed."""
    codes = [process.poll() for process in processes]
    return None in codes and not any(codes)


def _started(
    words: Sequence[str], rank: int, n_processes: int, *, port: int, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    threads = max(1, (os.cpu_count() or 1) // n_processes)
    own = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": n_processes,
        "LOCAL_WORLD_SIZE": n_processes,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "bench.cli.start", *words],
        env={**os.environ, **{name: str(value) for name, value in own.items()}},
        stdin=subprocess.DEVNULL,
        stdout=None if rank == 0 else subprocess.DEVNULL,
        stderr=None if rank == 0 else log,
        process_group=0,  # Ctrl-C reaches this process alone, which passes it on
        preexec_fn=_end_with_parent,  # noqa: PLW1509 (one system call, of a loaded library)
    )


def _end_with_parent() -> None:
    """Have Linux kill this process when the one that started it ends."""
    if sys.platform == "linux":
        _LIBC.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _signal(processes: Sequence[subprocess.Popen[bytes]], signum: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            process.send_signal(signum)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for processes that end by themselves, then end the others."""
    for signum in (None, signal.SIGTERM, signal.SIGKILL):
        if signum is not None:
            _signal([p for p in processes if p.poll() is None], signum)
        ends = time.monotonic() + _GRACE_SECONDS
        while any(p.poll() is None for p in processes) and time.monotonic() < ends:
            time.sleep(_POLL_SECONDS)


def _exit_code(processes: Sequence[subprocess.Popen[bytes]], log: IO[bytes]) -> int:
    codes = [process.wait() for process in processes]
    first = codes[0]
    if not any(codes) or (first > 0 and first != 70):
        return first  # rank 0 has printed why
    rank = next(rank for rank, code in enumerate(codes) if code)
    worst = next((r for r, code in enumerate(codes) if r and code), rank)
    log.seek(0)
    text = log.read().decode(errors="replace").strip()[-_SHOWN_CHARACTERS:]
    code = codes[worst]
    how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
    raise LaunchError(
        f"process {worst} of {len(codes)} {how}: run the same command again to go on from the last "
        "checkpoint" + (f"; it printed:\n{text}" if text else "")
    )
