"""Score the images of finished batches in one process beside those that render.

It is of low priority, and starts only where rendering leaves a core free. What depends on images
that may still come is left for the end, and so is all that goes wrong here: the tables are those of
a run without this process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Literal

import psutil

from bench.plan.metrics import expand_metrics
from bench.registry import find_metric
from bench.render.engine.messages import Control, Done, Logged, Opened, Ready, Result
from bench.render.engine.process import WorkerProcess, log_level
from bench.scoring.chunks import CHUNK, ChunkScorer, ChunkScores, ScoreProgram
from bench.scoring.images import PlannedImages, RunImages
from bench.scoring.task import Task, open_task
from bench.store import RunStore
from metrics.base import ScoredImage
from metrics.device import on_device

# The process imports torch and loads networks first; an image takes 0.1 s by pocket's 16 metrics.
LEAST_IMAGES = 2 * CHUNK
_PIECE = 8  # images; at the end of rendering one piece is waited for
_NICENESS = 10
_LOG = logging.getLogger(__name__)


class NotRenderedYetError(Exception):
    """A metric compares an image with others that may still come."""


class RenderedSoFar:
    """The references of a run in which batches are open: only what no further image changes.

    `lacks` is what a metric was refused since it was set to None: an image of the pair, or any of
    the run.
    """

    def __init__(self, run_images: RunImages) -> None:
        self._images, self.features = run_images, run_images.features
        self.lacks: Literal["pair", "run"] | None = None

    def base_of(self, image: ScoredImage) -> ScoredImage | None:
        """Return the base model's image of the same plugin, case and seed."""
        self._require_pair(image)
        return self._images.base_of(image)

    def floor_of(self, image: ScoredImage) -> ScoredImage | None:
        """Return the image of the upgraded model without the plugin, same case and seed."""
        self._require_pair(image)
        return self._images.floor_of(image)

    def style_bank(self, image: ScoredImage) -> Sequence[ScoredImage]:
        """Raise `NotRenderedYetError`: images of all other prompts are not final."""
        return self._refuse("run")

    def made_by(self, method: str, image: ScoredImage) -> Sequence[ScoredImage]:
        """Raise `NotRenderedYetError`: all images of a method are not final."""
        return self._refuse("run")

    def _require_pair(self, image: ScoredImage) -> None:
        if not self._images.has_whole_pair(image):
            self._refuse("pair")

    def _refuse(self, lacks: Literal["pair", "run"]) -> Sequence[ScoredImage]:
        self.lacks = lacks
        raise NotRenderedYetError(lacks)


@dataclass(frozen=True)
class Piece:
    """What is found of some images; `images` has their sha256 by place.

    `encoded` are the metrics whose encoders have seen all of them.
    """

    images: Mapping[int, str]
    found: ChunkScores
    encoded: frozenset[str] = frozenset()


@dataclass(frozen=True)
class BesideProgram(ScoreProgram):
    """Scores batches, each named by its file of results; its facts are the metrics' recipes."""

    def open(self, control: Control) -> Opened:
        """Read the plan and load the metrics."""
        os.nice(_NICENESS)
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads leave the cores
        self.set_threads()
        store = RunStore(self.folder)
        planned = PlannedImages(store)
        run_images = RunImages(planned.of_results(store.results().iloc[:0]))
        with on_device(self.device):
            tasks = [open_task(find_metric(n), run_images, self.timeout_s) for n in self.metrics]
        scorer = ChunkScorer(tasks, run_images)

        def score(batch: str) -> Iterator[Piece]:
            results = store.read_part("results", batch)
            places = run_images.enter(planned.of_results(results, how="inner"))
            rendered = [p for p in places if run_images.subjects[p].missing is None]
            with on_device(self.device):
                for start in range(0, len(rendered), _PIECE):
                    yield from _pieces(scorer, tasks, run_images, rendered[start : start + _PIECE])

        recipes = {task.name: task.recipe for task in tasks if task.unavailable is None}
        return Opened(score, {"recipes": recipes})


def _pieces(
    scorer: ChunkScorer, tasks: Sequence[Task], run_images: RunImages, places: Sequence[int]
) -> Iterator[Piece]:
    """Yield the rows of all networks, then the scores of each metric that needs no other image.

    A metric that fails, or needs images of the whole run, is not tried again.
    """
    images = {place: run_images.subjects[place].image.image_sha256 for place in places}
    n_rows = len(run_images.features)
    scorer.encode(places)
    encoded = frozenset(task.name for task in tasks if task.encoded.issuperset(places))
    rows = run_images.features.rows_since(n_rows)
    yield Piece(images, ChunkScores(rows=rows), encoded)
    references = RenderedSoFar(run_images)
    for task in [*scorer.with_pixels]:
        own, task.scores, references.lacks = {*task.places}, {}, None
        task.score([p for p in places if p in own], run_images, references)
        if references.lacks is None and not task.has_failed and task.unavailable is None:
            yield Piece(images, ChunkScores(scores={task.name: task.scores}))
        elif references.lacks == "pair":
            task.has_failed = False
        else:
            scorer.with_pixels.remove(task)


@dataclass
class EarlyScores:
    """What was found beside rendering; `recipes` are those under which it was found."""

    pieces: list[Piece] = field(default_factory=list)
    recipes: Mapping[str, str] = field(default_factory=dict)

    def enter(self, tasks: Sequence[Task], run_images: RunImages) -> None:
        """Add what is still right: the same recipe, and the same image."""
        valid = [t for t in tasks if t.unavailable is None and self.recipes.get(t.name) == t.recipe]
        subjects = run_images.subjects
        for piece in self.pieces:
            same = {p for p, sha in piece.images.items() if subjects[p].image.image_sha256 == sha}
            for encoder, rows in piece.found.rows.items():
                run_images.features.add_rows(encoder, rows)
            for task in valid:
                scores = piece.found.scores.get(task.name, {})
                task.scores.update((p, score) for p, score in scores.items() if p in same)
                task.encoded.update(same if task.name in piece.encoded else ())


class ScoringBeside:
    """The process and the batches that wait for it, one at a time; it starts with the first."""

    def __init__(self, program: BesideProgram, variables: Mapping[str, str]) -> None:
        self._program, self._variables = program, variables
        self._batches: SimpleQueue[str | None] = SimpleQueue()
        self._early, self._lock = EarlyScores(), Lock()
        self._process: WorkerProcess | None = None
        self._is_ended = False
        self._thread = Thread(target=self._score_all, name="scoring-beside", daemon=True)
        self._thread.start()

    def add(self, batch: str) -> None:
        """Score a batch whose results are written, after those before it."""
        self._batches.put(batch)

    def leave(self) -> None:
        """End the process after the piece in progress, without waiting for it."""
        with self._lock:
            self._is_ended = True
            if self._process is not None:
                self._process.leave()
        self._batches.put(None)

    def end(self) -> EarlyScores:
        """End the process after the piece in progress; return what it has found."""
        self.leave()
        self._thread.join()
        return self._early

    def _score_all(self) -> None:
        try:
            while (batch := self._batches.get()) is not None and (process := self._started()):
                process.give(batch)
                if not self._has_answered(process, batch):
                    break
        except OSError as error:
            _LOG.info("no process to score beside: %s", error)
        if self._process is not None:
            self._process.close()

    def _started(self) -> WorkerProcess | None:
        """Return the process; None once it has to end."""
        with self._lock:
            if self._is_ended:
                return None
            if self._process is None:
                self._process = WorkerProcess(self._program, self._variables, level=log_level())
            return self._process

    def _has_answered(self, process: WorkerProcess, batch: str) -> bool:
        """Take the pieces of a batch; return whether the process goes on."""
        while True:
            match process.receive():
                case Ready(facts):
                    self._early.recipes = facts["recipes"]
                case Result(piece):
                    self._early.pieces.append(piece)
                case Logged(name, level, text):
                    logging.getLogger(name).log(level, "%s", text)
                case Done():
                    return True
                case message:
                    if not self._is_ended:
                        why = type(message).__name__.lower()
                        _LOG.info("scoring beside %s in %s: the rest is scored later", why, batch)
                    return False


def begin_beside(
    store: RunStore,
    names: Sequence[str],
    *,
    device: str,
    n_images: int,
    n_cores: int | None,
    timeout_s: float | None = None,
) -> ScoringBeside | None:
    """Return what scores beside the rendering of images; None where that would not pay.

    `device` is that of the scores. Rendering takes `n_cores` of this machine, None where that is
    not known. A device that renders is left to that, and so are few images to the end.
    """
    import torch

    if n_cores is None or device != "cpu" or n_images < LEAST_IMAGES or os.name != "posix":
        return None
    if (n_free := _n_cores() - n_cores) < 1:
        return None
    program = BesideProgram(
        folder=store.folder.absolute(),
        run_id=None,
        metrics=tuple(expand_metrics(names, store.manifest())),
        device=device,
        threads=torch.get_num_threads(),
        timeout_s=timeout_s,
    )
    return ScoringBeside(program, {"OMP_NUM_THREADS": str(n_free)})


def _n_cores() -> int:
    """Return the cores of this process; two threads of one core count once."""
    has_affinity = hasattr(os, "sched_getaffinity")
    own = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(own, psutil.cpu_count(logical=False) or own)
