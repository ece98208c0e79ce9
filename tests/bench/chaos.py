"""Kill a run at random moments; what the chaos test and scripts/chaos share."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from bench.store import RunStore

ROOT = Path(__file__).parents[2]
MANIFEST = "pocket-smoke"
# Columns that a clock or the machine's memory decides; everything else must be identical.
MEASURED = ("seconds", "peak_memory_mib", "origin")


def start_run(out: Path, *, cache: Path, manifest: str = MANIFEST) -> subprocess.Popen[bytes]:
    """Start `xbench run` in a process of its own."""
    words = [sys.executable, "-m", "bench.cli", "run", "--manifest", manifest, "--out", str(out)]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env={**os.environ, "XBENCH_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def killed_run(
    out: Path, *, n_kills: int, cache: Path, rng: random.Random, manifest: str = MANIFEST
) -> list[str]:
    """Run, kill (SIGKILL) and resume until `n_kills` kills have hit, then finish the run.

    Kills hit after a random time since the run's folder last changed, and at random stages: once a
    random number of files is there. A run that finishes early is started anew in a fresh folder's
    place by removing its newest batch. Returns where each kill hit.
    """
    kills: list[str] = []
    while len(kills) < n_kills:
        process = start_run(out, cache=cache, manifest=manifest)
        n_files = _n_files(out)
        target = n_files + rng.randrange(1, 14)
        while process.poll() is None and _n_files(out) < target:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        if process.poll() is None:
            process.kill()
            kills.append(f"after {_n_files(out)} files")
        process.wait()
        if process.returncode == 0:
            _undo_last_batch(out, cache)
    assert start_run(out, cache=cache, manifest=manifest).wait() == 0
    return kills


def tables(folder: Path) -> dict[str, str]:
    """Everything a run found, as text: results, scores and summary without measured columns."""
    store = RunStore.open(folder)
    frames = {
        "trials": store.trials(),
        "results": store.results(),
        "scores": store.scores(),
        "summary": store.summary(),
    }
    return {
        name: frame.drop(columns=[c for c in MEASURED if c in frame]).to_csv(index=False)
        for name, frame in frames.items()
    }


def _n_files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.suffix in (".png", ".parquet", ".json"))


def _undo_last_batch(out: Path, cache: Path) -> None:
    """Make a finished run unfinished again, so that there is something to kill."""
    newest = max((out / "results").glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    newest.unlink()
    for path in sorted(cache.rglob("*"), reverse=True):
        if path.is_file():
            path.unlink()
