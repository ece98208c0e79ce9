"""Score a run by metrics' names, and self-test metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Literal

from tqdm import tqdm

from bench.plan.metrics import expand_metrics
from bench.registry import find_metric, installed
from bench.scoring.score import score_run
from bench.store import RunStore
from metrics.base import MetricUnavailableError

SelfTestState = Literal["ok", "wrong", "unavailable"]


def score_by_names(store: RunStore, names: Sequence[str], *, show_progress: bool) -> float:
    """Score a run by metrics; return the seconds spent inside them, loading included.

    "condition" means the metrics of the plugins' conditions. Raises `UserError` for unknown names.
    """
    started = time.perf_counter()
    expanded = expand_metrics(names, store.manifest())
    metrics = [find_metric(name) for name in expanded]
    loading_seconds = time.perf_counter() - started
    with tqdm(unit="score", desc="scores", disable=None if show_progress else True) as bar:

        def advance(done: int, total: int, name: str) -> None:
            bar.total = total
            bar.set_postfix_str(name, refresh=False)
            bar.update(done - bar.n)

        return loading_seconds + score_run(store, metrics, progress=advance).total_seconds


def selftests(
    names: Sequence[str] | None = None,
) -> Iterator[tuple[str, SelfTestState, str | None]]:
    """Run each metric's self-test (default: all); yield name, state and problem.

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
