"""Killed runs and full disks: resumed, the tables are those of an undisturbed run."""

from __future__ import annotations

import random
import resource
import signal
import tempfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from random import Random

from tests.bench.chaos import killed_run, start_run, tables
from tests.faults.base import Fault, Kind, run_xbench


@cache
def _undisturbed() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "whole"
        assert start_run(out, cache=Path(folder) / "cache").wait() == 0
        return tables(out)


def _kill(folder: Path, *, seed: int) -> None:
    expected = _undisturbed()
    killed_run(folder / "run", n_kills=1, cache=folder / "cache", rng=random.Random(seed))
    assert tables(folder / "run") == expected


def _full_disk(folder: Path, *, n_bytes: int) -> None:
    """Files end at `n_bytes`: the run stops with one message, and goes on once there is room."""
    expected = _undisturbed()

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that write() fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))

    words = ("run", "--manifest", "pocket-smoke", "--out", folder / "run")
    done = run_xbench(*words, cwd=folder, before=limit)
    assert done.returncode in {0, 2}, (done.returncode, done.stderr[-2000:])
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    again = run_xbench(*words, cwd=folder)
    assert again.returncode == 0, again.stderr[-2000:]
    assert tables(folder / "run") == expected


def _faults(rng: Random) -> Iterator[Fault]:
    while True:
        if rng.random() < 0.5:
            seed = rng.getrandbits(32)
            yield Fault(f"killed, seed {seed}", partial(_kill, seed=seed))
        else:
            n_bytes = int(2 ** rng.uniform(8, 18))
            yield Fault(f"files end at {n_bytes} bytes", partial(_full_disk, n_bytes=n_bytes))


KIND = Kind(
    "kills and full disks",
    "B files",
    "a resumed run equals an undisturbed one",
    _faults,
    count=20,
    sample=0,
    limit_s=900,
)
