"""Score a run's images: scores/<metric>.parquet, written atomically, none computed twice.

A metric is skipped if its file holds the same recipe over the same images. Each image is decoded
once for all image metrics, and embedded once for all metrics that share a network, in this process
or, by chunks, by workers. The ceiling of a condition metric is the score of the source pictures:
scores/ceilings/<metric>.parquet holds a row for each plugin and case, computed once for the same
cases and recipe.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.render.engine.choice import Workers
from bench.render.engine.scheduler import Lost
from bench.scoring.beside import EarlyScores
from bench.scoring.ceilings import score_ceilings
from bench.scoring.checked import FAILED, MetricFailedError, checked_score
from bench.scoring.chunks import ChunkScorer, ChunkScores, ScoreProgram, chunks_of
from bench.scoring.images import ImageToScore, RunImages, read_images
from bench.scoring.task import Task, open_task
from bench.scoring.workers import is_shared, share_chunks
from bench.store import Row, RunStore, records
from metrics.base import Metric, MetricUnavailableError, Score, ScoredImage, SetMetric
from metrics.device import device_name

Progress = Callable[[int, int, str], None]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scoring:
    """Seconds spent on metrics, metrics skipped as up to date, number of rows written."""

    seconds: float
    skipped: tuple[str, ...]
    n_scores: int


def score_run(
    run: RunStore | Path,
    metrics: Sequence[Metric],
    *,
    progress: Progress | None = None,
    timeout_s: float | None = None,
    workers: Workers | None = None,
    early: EarlyScores | None = None,
) -> Scoring:
    """Score all images of a run; `progress(done, total, metric name)` counts scored images.

    Metrics without their weights, metrics that fail or take longer than `timeout_s` for a chunk of
    images, and images that were not rendered, give null with the reason. Workers find the metrics
    by name, each in its own process; the scores are the same. None: this process scores. What was
    scored `early` is taken over.
    """
    started = time.perf_counter()
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    run_images = read_images(store)
    tasks = [open_task(metric, run_images, timeout_s) for metric in metrics]
    stale = store.stale_scores()
    due = [t for t in tasks if t.name in stale or t.inputs != _scored_inputs(store, t.name)]
    if early is not None:
        early.enter(due, run_images)
    counter = _Counter(due, progress)
    if workers is not None and is_shared(workers, device_name(), len(_left(due, run_images))):
        _score_shared(due, run_images, counter, store=store, workers=workers)
    else:
        _score_here(due, run_images, counter)
    n_scores = 0
    for task in due:
        counter.announce(task.name)
        rows = _rows(task, run_images)
        store.write_scores(task.name, pd.DataFrame(rows))
        _LOG.info("%s: %d scores", task.name, len(rows))
        n_scores += len(rows)
    counter.end()
    for task in tasks:
        if task.unavailable is None:
            score_ceilings(store, task, run_images)
    skipped = tuple(task.name for task in tasks if task not in due)
    return Scoring(time.perf_counter() - started, skipped, n_scores)


def read_scores(store: RunStore) -> list[Row]:
    """Return all scores of a run as rows of `schema.SCORES`, in a fixed order."""
    return [row for frame in store.read_parts("scores") for row in records(frame)]


def _scored_inputs(store: RunStore, name: str) -> str | None:
    found = store.scores_of(name)["inputs"].tolist()
    return found[0] if found else None


# --- chunks of images


def _left(due: Sequence[Task], run_images: RunImages) -> list[list[int]]:
    """Return the places that a task needs pixels of, in chunks of neighbors."""
    with_pixels = [t for t in due if t.metric.level == "image" or t.encoders]
    open_places = {p for task in with_pixels for p in task.places if not task.has(p)}
    chunks = ([p for p in chunk if p in open_places] for chunk in chunks_of(run_images))
    return [chunk for chunk in chunks if chunk]


def _score_here(due: Sequence[Task], run_images: RunImages, counter: _Counter) -> None:
    scorer = ChunkScorer(due, run_images, announce=counter.announce)
    for chunk in _left(due, run_images):
        scorer(chunk)
        counter.done(chunk)


def _score_shared(
    due: Sequence[Task],
    run_images: RunImages,
    counter: _Counter,
    *,
    store: RunStore,
    workers: Workers,
) -> None:
    """Have workers score the chunks; one that ended three of them has no scores."""
    import torch

    own = [t for t in due if t.unavailable is None and (t.metric.level == "image" or t.encoders)]
    if not own:
        return
    program = ScoreProgram(
        folder=store.folder.absolute(),
        run_id=store.run_facts().get("run_id"),
        metrics=tuple(task.name for task in own),
        device=device_name(),
        threads=torch.get_num_threads(),
        timeout_s=own[0].timeout_s,
    )
    inputs = {task.name: task.inputs for task in own}
    for chunk, found in share_chunks(_left(own, run_images), program, workers, inputs):
        if isinstance(found, Lost):
            _give_up(own, chunk, found.reason)
        else:
            _take_over(own, found, run_images)
        counter.done(chunk)


def _take_over(tasks: Sequence[Task], found: ChunkScores, run_images: RunImages) -> None:
    for task in tasks:
        task.scores.update(found.scores.get(task.name, {}))
        task.unavailable = task.unavailable or found.unavailable.get(task.name)
        task.has_failed |= task.name in found.failed
    for encoder, rows in found.rows.items():
        run_images.features.add_rows(encoder, rows)


def _give_up(tasks: Sequence[Task], chunk: Sequence[int], reason: str) -> None:
    """Record why a chunk has no scores; metrics of its features cannot do without them."""
    for task in tasks:
        task.has_failed = True
        if task.encoders:
            task.unavailable = task.unavailable or reason
        else:
            task.scores.update((p, Score(None, reason)) for p in chunk if p in {*task.places})


class _Counter:
    """Counts the images of each metric as their chunks are done, sets of images at the end."""

    def __init__(self, due: Sequence[Task], progress: Progress | None) -> None:
        self._due = [(task.name, {*task.places}) for task in due]
        self._progress, self._n_done, self._name = progress, 0, ""
        self._total = sum(len(places) for _, places in self._due)

    def announce(self, name: str) -> None:
        """Report the metric that is scored now."""
        self._name = name
        if self._progress is not None:
            self._progress(self._n_done, self._total, name)

    def done(self, chunk: Sequence[int]) -> None:
        """Report that a chunk's images are scored."""
        self._n_done += sum(len(places.intersection(chunk)) for _, places in self._due)
        self.announce(self._name)

    def end(self) -> None:
        """Report that everything is scored."""
        self._n_done = self._total
        self.announce(self._name)


# --- rows


def _rows(task: Task, run_images: RunImages) -> list[Row]:
    """Return the rows of a metric; without values if its recipe is not the one of the start."""
    if task.metric.level == "group":
        rows = _group_rows(task, run_images)
    else:
        rows = _image_rows(task, run_images)
    if task.unavailable is not None:
        return rows
    try:
        recipe = str(task.call(task.metric.recipe))
    except (MetricUnavailableError, MetricFailedError) as error:
        recipe = str(error)
    if recipe == task.recipe:
        return rows
    task.has_failed = True
    task.unavailable = f"the metric's recipe changed while it scored, to {recipe}: score again"
    blank = {"value": None, "reason": task.unavailable, "leave_one_out": None, "n": 0}
    blank["inputs"] = FAILED
    return [{**row, **blank} for row in rows]


def _image_rows(task: Task, run_images: RunImages) -> list[Row]:
    if task.encoders:
        _score_from_features(task, run_images)
    rows = []
    for place in task.places:
        subject = run_images.subjects[place]
        why = subject.missing or task.unavailable or "no score"
        score = task.scores.get(place) or Score(None, why)
        n = 0 if score.value is None else 1
        image = subject.image
        identity = {"trial_id": image.trial_id, "case_id": image.case_id, "seed": image.seed}
        rows.append({**_row(task, subject, score), **identity, "n": n})
    return rows


def _score_from_features(task: Task, run_images: RunImages) -> None:
    own = {*task.places}
    for chunk in chunks_of(run_images):
        rendered = [p for p in chunk if p in own and run_images.subjects[p].missing is None]
        task.score(rendered, run_images)


def _group_rows(task: Task, run_images: RunImages) -> list[Row]:
    metric: SetMetric = task.metric  # pyright: ignore[reportAssignmentType] - level is "group"
    groups: dict[tuple[Any, ...], list[ImageToScore]] = {}
    for subject in (run_images.subjects[place] for place in task.places):
        image = subject.image
        settings = (image.t0, image.plugin_scale, image.adapter_scale, image.adapter)
        groups.setdefault((image.plugin, image.kind, image.method, *settings), []).append(subject)
    rows = []
    for members in groups.values():
        images = [s.image for s in members if s.missing is None]
        score = _group_score(task, metric, images, run_images)
        n = 0 if score.value is None else len(images)
        rows.append({**_row(task, members[0], _with_caution(score, members)), "n": n})
    return rows


def _group_score(
    task: Task, metric: SetMetric, images: Sequence[ScoredImage], run_images: RunImages
) -> Score:
    if task.unavailable:
        return Score(None, task.unavailable)
    try:
        score = task.call(lambda: metric.score(images, run_images))
        return checked_score(score, images, of_run={i.prompt for i in run_images.images()})
    except (MetricUnavailableError, MetricFailedError) as error:
        return Score(None, str(error))


def _with_caution(score: Score, members: Sequence[ImageToScore]) -> Score:
    reasons = Counter(s.missing for s in members if s.missing)
    if not reasons:
        return score
    missing = f"{reasons.total()} of {len(members)} images missing ({reasons.most_common(1)[0][0]})"
    reason = f"{score.reason}; {missing}" if score.reason else missing
    return Score(score.value, reason, score.leave_one_out)


def _row(task: Task, subject: ImageToScore, score: Score) -> Row:
    image, metric = subject.image, task.metric
    left_out = score.leave_one_out
    return {
        "plugin": image.plugin,
        "kind": image.kind,
        "method": image.method,
        "t0": image.t0,
        "plugin_scale": image.plugin_scale,
        "adapter_scale": image.adapter_scale,
        "adapter": image.adapter,
        "metric": metric.name,
        "recipe": task.recipe,
        "better": metric.better,
        "level": metric.level,
        "value": score.value,
        "reason": score.reason,
        "leave_one_out": None if left_out is None else json.dumps(dict(left_out), sort_keys=True),
        "inputs": FAILED if task.has_failed else task.inputs,
    }
