"""Score the images of a run, and write its tables and report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from bench import provenance
from bench.plan.metrics import Mode, selected_metrics
from bench.registry import installed
from bench.render import Stopwatch
from bench.render.engine.choice import Workers
from bench.store import RunStore
from bench.store.verify import TO_REPORT, require_sound
from metrics.stats.verdicts import Thresholds
from plugins_manifest.progress import Progress

if TYPE_CHECKING:
    from bench.scoring.beside import EarlyScores

_REPORTING = (
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
    *("jinja2", "scipy.special", "scipy.stats"),
)


def score_and_tabulate(
    run_dir: Path,
    *,
    metrics: Sequence[str] | None = None,
    mode: Mode | None = None,
    thresholds: Thresholds | None = None,
    show_progress: bool,
    metric_device: str = "auto",
    workers: Workers | None = None,
) -> float:
    """Score a finished run and write its tables; return the seconds spent inside metrics.

    `mode` None is the manifest's, `thresholds` None the shipped ones.
    """
    from bench.scoring import score_by_names

    store = RunStore.open(run_dir)
    with store.lock():
        require_sound(store, TO_REPORT, may_miss=("scores", "audit"))
        names = selected_metrics(store.manifest(), mode) if metrics is None else metrics
        seconds = score_by_names(
            store, names, show_progress=show_progress, device=metric_device, workers=workers
        )
        require_sound(store, ("scores",))
        write_tables(store, mode=mode, thresholds=thresholds)
        facts = store.run_facts()
        found = provenance.took_part(facts.get("distributions"))
        if found != facts.get("distributions"):
            store.write_run_facts({**facts, "distributions": found})
    return seconds


def write_tables(
    store: RunStore,
    *,
    mode: Mode | None = None,
    thresholds: Thresholds | None = None,
    png: bool = True,
) -> None:
    """Write summary.parquet, compatibility.parquet and the report with its image sheets.

    `thresholds` of the verdicts, None for the shipped ones. Plots are SVG files, and PNG files too
    if `png`.
    """
    from bench.analysis import read_run_scores, summarise, write_compatibility
    from bench.report import write_report

    with Progress("writing tables and the report", unit="part", total=3, alike=False) as progress:
        progress.detail("means and intervals")
        scores = read_run_scores(store)
        summarise(store, scores)
        progress.update()
        progress.detail("verdicts")
        write_compatibility(store, scores, thresholds=thresholds)
        progress.update()
        progress.detail("report")
        write_report(store, scores, mode=mode, png=png)


def preload(*names: str) -> Thread:
    """Import modules on another thread; a failed import is raised where the module is used."""

    def load() -> None:
        for name in names:
            with suppress(ImportError):
                import_module(name)

    thread = Thread(target=load, name="preload", daemon=True)
    thread.start()
    return thread


def score_and_write(
    store: RunStore,
    metrics: Sequence[str],
    *,
    clock: Stopwatch,
    mode: Mode | None,
    thresholds: Thresholds | None,
    timeout_s: float | None,
    show_progress: bool,
    metric_device: str = "auto",
    workers: Workers | None = None,
    early: EarlyScores | None = None,
) -> None:
    """Score, summarize and report the images of a locked run, stale scores of others included.

    What was scored `early` is taken over.
    """
    started = time.perf_counter()
    from bench.scoring import score_by_names

    clock.metrics += time.perf_counter() - started  # torch, unless it was loaded before
    require_sound(store, ("results", "images", "conditions"))
    preload(*_REPORTING)
    stale = set(store.stale_scores()) & installed("metrics").keys()
    names = [*dict.fromkeys([*metrics, *sorted(stale)])]
    clock.metrics += score_by_names(
        store,
        names,
        show_progress=show_progress,
        timeout_s=timeout_s,
        device=metric_device,
        workers=workers,
        early=early,
    )
    # without PNG plots: `xbench report` draws them too
    write_tables(store, mode=mode, thresholds=thresholds, png=False)
