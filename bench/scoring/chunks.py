"""Score neighboring images by all metrics in turn: each picture is decoded once, and encoded once.

Metrics that take nothing from pictures but rows of networks (`encoders`) are scored later, from the
rows that are kept: their references are anywhere in the run.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.registry import find_metric
from bench.render.engine.messages import Control, Opened
from bench.scoring.checked import MetricFailedError, called
from bench.scoring.images import RunImages, read_images
from bench.scoring.task import Task, open_task
from bench.store import RunStore
from metrics.base import MetricUnavailableError, Score
from metrics.device import on_device
from metrics.encoders import RowSource

CHUNK = 64


@dataclass(frozen=True)
class ChunkScores:
    """What the work on a chunk of images gives; it crosses processes."""

    scores: Mapping[str, Mapping[int, Score]] = field(default_factory=dict)  # metric -> place
    unavailable: Mapping[str, str] = field(default_factory=dict)
    failed: frozenset[str] = frozenset()
    rows: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)  # encoder -> sha256


def chunks_of(run_images: RunImages) -> list[range]:
    """Return the places of all images of a run, in chunks of neighbors."""
    n = len(run_images.subjects)
    return [range(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]


class ChunkScorer:
    """Score chunks by the tasks of image metrics, and encode them for those with encoders."""

    def __init__(
        self,
        tasks: Sequence[Task],
        run_images: RunImages,
        *,
        announce: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._images, self._announce = run_images, announce
        self.with_pixels = [t for t in tasks if t.metric.level == "image" and not t.encoders]
        self._by_encoder: dict[RowSource, list[Task]] = {}
        for task in tasks:
            for encoder in task.encoders if task.unavailable is None else ():
                self._by_encoder.setdefault(encoder, []).append(task)

    def __call__(self, chunk: Iterable[int]) -> None:
        """Score the images at these places; values and features are kept by tasks and run."""
        rendered = [p for p in chunk if self._images.subjects[p].missing is None]
        self.encode(rendered)
        for task in self.with_pixels:
            self._announce(task.name)
            own = {*task.places} - task.scores.keys()
            task.score([p for p in rendered if p in own], self._images)

    def encode(self, rendered: Sequence[int]) -> None:
        """Encode rendered images by all networks that a task needs them of."""
        for encoder, tasks in [*self._by_encoder.items()]:
            self._announce(tasks[0].name)
            wanted = {place for task in tasks for place in task.places}
            self._encode(encoder, [p for p in rendered if p in wanted], tasks[0])
        for task in {task: None for tasks in self._by_encoder.values() for task in tasks}:
            if all(encoder in self._by_encoder for encoder in task.encoders):
                task.encoded.update(rendered)

    def _encode(self, encoder: RowSource, places: list[int], task: Task) -> None:
        """Encode images; an encoder that fails is left to the metrics, which have the reason."""
        images = [self._images.subjects[place].image for place in places]
        what = f"metric {task.name!r}"
        try:
            if images:
                encode = partial(encoder.rows, images, self._images)
                called(encode, what=what, timeout_s=task.timeout_s)
        except (MetricFailedError, MetricUnavailableError):
            del self._by_encoder[encoder]


@dataclass(frozen=True)
class ScoreProgram:
    """What a worker beside the process that writes does: score chunks by installed metrics.

    Its facts are the worker's machine and each metric's inputs there: the recipe and the images,
    None where the folder is not that of the run.
    """

    folder: Path
    run_id: str | None
    metrics: tuple[str, ...]
    device: str
    threads: int  # of torch in the process that writes
    timeout_s: float | None = None

    def open(self, control: Control) -> Opened:
        """Read the run and load the metrics."""
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads leave the cores
        facts: dict[str, Any] = {"node": platform.node(), "inputs": None}
        store = RunStore(self.folder)
        if not store.exists() or store.run_facts().get("run_id") != self.run_id:
            return Opened(lambda chunk: iter(()), facts)
        self.set_threads()
        run_images = read_images(store)
        with on_device(self.device):
            tasks = [open_task(find_metric(n), run_images, self.timeout_s) for n in self.metrics]
        scorer = ChunkScorer(tasks, run_images)

        def score(chunk: Sequence[int]) -> Iterator[ChunkScores]:
            n_rows = len(run_images.features)
            for task in tasks:
                task.scores, task.has_failed = {}, False
            with on_device(self.device):
                scorer(chunk)
            yield ChunkScores(
                scores={task.name: task.scores for task in tasks},
                unavailable={t.name: t.unavailable for t in tasks if t.unavailable is not None},
                failed=frozenset(task.name for task in tasks if task.has_failed),
                rows=run_images.features.rows_since(n_rows),
            )

        return Opened(score, {**facts, "inputs": {task.name: task.inputs for task in tasks}})

    def set_threads(self) -> None:
        """Give torch one thread where the writer has one, else at least two.

        With one thread PyTorch takes another kernel for 1 x 1 convolutions, which rounds
        differently.
        """
        import torch

        torch.set_num_threads(1 if self.threads == 1 else max(2, torch.get_num_threads()))
