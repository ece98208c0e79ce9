"""Score a run by metrics' names, and self-test metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Literal

from bench.errors import UserError
from bench.plan.metrics import expand_metrics
from bench.registry import find_metric, installed
from bench.render.engine.choice import Workers
from bench.scoring.beside import EarlyScores
from bench.scoring.checked import MetricFailedError, called
from bench.scoring.device import record_device, scoring_device
from bench.scoring.score import score_run
from bench.store import RunStore
from metrics.base import MetricUnavailableError
from metrics.device import on_device
from plugins_manifest.progress import Progress

SelfTestState = Literal["ok", "wrong", "unavailable"]


def score_by_names(
    store: RunStore,
    names: Sequence[str],
    *,
    show_progress: bool,
    timeout_s: float | None = None,
    device: str = "auto",
    workers: Workers | None = None,
    early: EarlyScores | None = None,
) -> float:
    """Score a run by metrics; return the seconds spent inside them, loading included.

    `device` is that of `--metric-device`; with `workers` None, this process scores. What was
    scored `early` is taken over.
    "condition" means the metrics of the plugins' conditions. Raises `UserError` for unknown names.
    """
    started = time.perf_counter()
    with Progress("loading metrics"):
        expanded = expand_metrics(names, store.manifest())
        metrics = [find_metric(name) for name in expanded]
        place = scoring_device(store, device)
    loading_seconds = time.perf_counter() - started
    with Progress("scoring", unit="score", has_bar=show_progress) as bar:

        def advance(done: int, total: int, name: str) -> None:
            bar.detail(name)
            bar.to(done, total)

        with on_device(place):
            scoring = score_run(
                store,
                metrics,
                progress=advance,
                timeout_s=timeout_s,
                workers=workers,
                early=early,
            )
        record_device(store, place)
        return loading_seconds + scoring.seconds


def selftests(
    names: Sequence[str] | None = None,
) -> Iterator[tuple[str, SelfTestState, str | None]]:
    """Run each metric's self-test (default: all); yield name, state and problem.

    Raises `UserError` for unknown metrics.
    """
    if names:
        for name in names:
            find_metric(name)
    for name in names or sorted(installed("metrics")):
        try:
            test = getattr(find_metric(name), "selftest", None)
            if test is None:
                raise MetricUnavailableError("it has no self-test")
            called(test, what=f"metric {name!r}")
        except MetricUnavailableError as error:
            yield name, "unavailable", str(error)
        except MetricFailedError as error:
            cause = error.__cause__
            is_claim = isinstance(cause, AssertionError)
            yield name, "wrong", str(cause) or type(cause).__name__ if is_claim else str(error)
        except UserError as error:
            yield name, "wrong", str(error)
        else:
            yield name, "ok", None
