"""Kill a run at random moments; what the chaos test and scripts/chaos share."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from bench.store.run_store import RunStore
from tests.bench.warm_workers import COMMAND, PIDS, warm_workers
from tests.warm import WarmProcess

MANIFEST = "pocket-smoke"
N_FILES = 30  # that a run from scratch writes, about
RUN = "import sys; from bench.cli.main import main; main(sys.argv[1:])"
# Columns that a clock or the machine's memory decides; everything else must be identical.
MEASURED = ("seconds", "peak_memory_mib", "origin")


def start_run(
    out: Path, *, cache: Path, manifest: str = MANIFEST, options: Sequence[str] = ()
) -> WarmProcess:
    """Start `xbench run` in a process of its own."""
    words = ("run", "--manifest", manifest, "--out", str(out), *options)
    env = {**os.environ, "XBENCH_CACHE": str(cache), PIDS: str(pids_of(out))}
    return WarmProcess(COMMAND, *words, env=env)


def pids_of(out: Path) -> Path:
    """Return the file beside a run directory that has the numbers of its workers."""
    return out.with_name(f"{out.name}.workers")


def killed_run(
    out: Path, *, n_kills: int, cache: Path, rng: random.Random, manifest: str = MANIFEST
) -> list[str]:
    """Run, kill (SIGKILL) and resume until `n_kills` kills have hit, then finish the run.

    Each kill comes once a random number of files was written, and a random moment after. A run
    that finishes before its kill has its batches and the cache taken away, and begins anew.
    Returns what each kill hit.
    """
    kills: list[str] = []
    while len(kills) < n_kills:
        started_ns = time.time_ns()
        process = start_run(out, cache=cache, manifest=manifest)
        target = rng.randrange(0, N_FILES)
        while process.poll() is None and len(_written(out, started_ns)) <= target:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.2)
        if process.poll() is None:
            process.kill()
            written = _written(out, started_ns)
            kills.append(f"after {len(written)} files, the last {written[-1]}")
        if process.wait() == 0:
            shutil.rmtree(out / "results")
            shutil.rmtree(cache)
    assert start_run(out, cache=cache, manifest=manifest).wait() == 0
    return kills


def killed_workers(
    out: Path,
    *,
    n_workers: int,
    n_drivers: int,
    cache: Path,
    rng: random.Random,
    options: Sequence[str],
) -> list[str]:
    """Run by workers, kill some of them and the run itself (SIGKILL), then finish the run.

    A run that finishes before its kills has its images and the cache taken away. Each kill comes
    after up to four more images. Returns what was killed.
    """
    todo = ["worker"] * n_workers + ["driver"] * n_drivers
    rng.shuffle(todo)
    kills: list[str] = []
    while todo:
        process = start_run(out, cache=cache, options=options)
        while todo and process.poll() is None:
            _wait_for_images(out, rng.randrange(5), process)
            time.sleep(rng.random() * 0.3)
            with suppress(psutil.NoSuchProcess):
                driver = psutil.Process(process.pid)
                victims = [driver] if todo[-1] == "driver" else workers_of(driver, out)
                if process.poll() is None and victims:
                    rng.choice(victims).kill()
                    n_images = len(RunStore(out).image_ids())
                    kills.append(f"{todo.pop()}, with {n_images} images")
        if process.wait() == 0 and todo:
            for folder in (out / "results", out / "images", cache):
                shutil.rmtree(folder)
    while (code := start_run(out, cache=cache, options=options).wait()) == 1:
        continue  # images of a batch that lost three workers are tried again
    assert code == 0
    return kills


def _wait_for_images(out: Path, n_more: int, process: WarmProcess) -> None:
    """Wait until a run has so many more images, a while at most."""
    n_before, deadline = len(RunStore(out).image_ids()), time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if len(RunStore(out).image_ids()) >= n_before + n_more:
            return
        time.sleep(0.01)


def workers_of(driver: psutil.Process, out: Path) -> list[psutil.Process]:
    """Return the worker processes of a run, also those on a local Ray cluster."""
    found = warm_workers(pids_of(out))
    for child in driver.children(recursive=True):
        with suppress(psutil.Error):
            found += [child] if "bench.render.engine.serve" in child.cmdline() else []
    return found


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


def _written(folder: Path, since_ns: int) -> list[str]:
    """Names of the finished files written since a moment, oldest first."""
    found: list[tuple[int, str]] = []
    for path in folder.rglob("*.*"):
        if path.suffix in (".png", ".parquet", ".json", ".md") and path.name[0] != ".":
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime_ns, path.name))
    return [name for written_ns, name in sorted(found) if written_ns >= since_ns]
