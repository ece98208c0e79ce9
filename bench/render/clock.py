"""The seconds of a run that models and metrics take: what is left is overhead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Stopwatch:
    """Seconds spent inside models (loading included) and inside metrics."""

    models: float = 0.0
    metrics: float = 0.0

    @contextmanager
    def in_models(self) -> Iterator[None]:
        """Count the time inside the context as the models'."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.models += time.perf_counter() - started

    @contextmanager
    def in_metrics(self) -> Iterator[None]:
        """Count the time inside the context as the metrics'."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.metrics += time.perf_counter() - started
