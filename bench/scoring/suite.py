"""Scoring a run by the metrics that its manifest names, and writing its tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from bench.analysis.compatibility import write_compatibility
from bench.analysis.summary import read_run_scores, summarise
from bench.plan.metrics import Mode, metrics_asked
from bench.registry import CONDITION_METRICS, find_metric, installed, metrics_of
from bench.report.write import write_report
from bench.scoring.score import score_run
from bench.store.run_store import RunStore
from metrics.base import MetricUnavailableError
from plugins_manifest.schema.manifest import Manifest

SelfTestState = Literal["ok", "wrong", "unavailable"]


def judge_run(
    run_dir: Path,
    *,
    metrics: Sequence[str] | None = None,
    mode: Mode | None = None,
    show_progress: bool,
) -> float:
    """Score a finished run and write its tables; returns the seconds spent inside metrics.

    `mode` None is the manifest's.
    """
    store = RunStore.open(run_dir)
    with store.lock():
        names = metrics_asked(store.manifest(), mode) if metrics is None else metrics
        seconds = score(store, names, show_progress=show_progress)
        write_tables(store, mode=mode)
    return seconds


def score(store: RunStore, names: Sequence[str], *, show_progress: bool) -> float:
    """Score a run by metrics; returns the seconds spent inside them, loading included.

    "condition" stands for the metrics of the plugins' conditions. Raises `UserError` for unknown
    ones.
    """
    started = time.perf_counter()
    meant = expand_metrics(names, store.manifest())
    metrics = [find_metric(name) for name in meant]
    loading_seconds = time.perf_counter() - started
    with tqdm(unit="score", desc="scores", disable=None if show_progress else True) as bar:

        def advance(done: int, total: int, name: str) -> None:
            bar.total = total
            bar.set_postfix_str(name, refresh=False)
            bar.update(done - bar.n)

        return loading_seconds + score_run(store, metrics, progress=advance).total_seconds


def expand_metrics(names: Sequence[str], manifest: Manifest) -> list[str]:
    """The metrics meant, each once: "condition" stands for those of the plugins' conditions."""
    if CONDITION_METRICS not in names:
        return list(dict.fromkeys(names))
    conditions = dict.fromkeys(spec.condition for spec in manifest.plugins if spec.condition)
    chosen = [name for condition in conditions for name in metrics_of(condition)]
    lists = ([*chosen] if name == CONDITION_METRICS else [name] for name in names)
    return list(dict.fromkeys(chain.from_iterable(lists)))


def write_tables(store: RunStore, *, mode: Mode | None = None, png: bool = True) -> None:
    """Write summary.parquet, compatibility.parquet and the report with its picture sheets.

    Plots are SVG files, and PNG files too if `png`.
    """
    scores = read_run_scores(store)
    summarise(store, scores)
    write_compatibility(store, scores)
    write_report(store, scores, mode=mode, png=png)


def selftests(
    names: Sequence[str] | None = None,
) -> Iterator[tuple[str, SelfTestState, str | None]]:
    """Each metric (all by default) with what its self-test found; None where all is well.

    Raises `UserError` for unknown metrics.
    """
    for name in names or sorted(installed("metrics")):
        metric = find_metric(name)
        try:
            metric.selftest()
        except MetricUnavailableError as error:
            yield name, "unavailable", str(error)
        except AssertionError as error:
            yield name, "wrong", str(error) or type(error).__name__
        else:
            yield name, "ok", None
