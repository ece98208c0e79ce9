"""What a worker process does: it loads the models of a plan once and renders batches."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from bench.provenance import device_facts
from bench.render.budget import Budget
from bench.render.engine.messages import Control, Opened
from bench.render.family import FamilyRenderer
from bench.render.worker import BatchWorker


@dataclass(frozen=True)
class RenderProgram:
    """Renders batches with the renderer that `make` returns."""

    make: Callable[[], FamilyRenderer]
    batch_timeout: float | None = None

    def open(self, control: Control) -> Opened:
        """Load the models from this machine's disk, one process of the machine at a time."""
        renderer = self.make()
        with FileLock(_lock_path()):
            renderer.prepare()
        budget = Budget()

        def stop() -> None:
            budget.stopped = "the run's limit"

        control.on_stop = stop
        worker = BatchWorker(
            renderer,
            renderer.prepare,
            budget=budget,
            batch_timeout=self.batch_timeout,
            is_usable=renderer.is_usable,
        )
        facts = {"device": device_facts(renderer.device), "render_context": renderer.context}
        return Opened(worker, {**facts, "node": platform.node()})


def _lock_path() -> Path:
    """Return a file of this machine, not of a shared disk."""
    return Path(tempfile.gettempdir()) / f"xbench-{os.getuid()}-models.lock"
