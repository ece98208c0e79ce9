"""Score a run's images: scores/<metric>.parquet, written atomically, none computed twice.

A metric is skipped if its file holds the same recipe over the same images. Each image is read
once for all image metrics, and embedded once for all metrics that share a network. The ceiling of
a condition metric is the score of the source pictures: scores/ceilings/<metric>.parquet holds a
row for each plugin and case, computed once for the same cases and recipe.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import pandas as pd

from bench.scoring.checked import MetricFailedError, called, checked_score, checked_scores
from bench.scoring.images import ImageToScore, RunImages, read_images
from bench.store import Row, RunStore, records
from metrics.base import ImageMetric, Metric, MetricUnavailableError, Score, ScoredImage, SetMetric

Progress = Callable[[int, int, str], None]
Ceiling = Callable[[ScoredImage], Score]
T = TypeVar("T")
_CHUNK = 64
_FAILED = "failed"  # in place of the hash of the inputs: never up to date
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scoring:
    """Seconds inside each metric, metrics skipped as up to date, number of rows written."""

    seconds: dict[str, float]
    skipped: tuple[str, ...]
    n_scores: int

    @property
    def total_seconds(self) -> float:
        """Seconds inside metrics, reading images included."""
        return sum(self.seconds.values())


@dataclass
class _Task:
    """A metric with the images it applies to; `unavailable` is why it gives no scores."""

    metric: Metric
    recipe: str
    inputs: str
    subjects: list[ImageToScore]
    unavailable: str | None
    scores: dict[int, Score]  # index of the subject -> score; image metrics only
    timeout_s: float | None = None
    has_failed: bool = False  # then it is scored again the next time

    def call(self, call: Callable[[], T]) -> T:
        """Call the metric; raise `MetricFailedError` or `MetricUnavailableError`."""
        what = f"metric {self.metric.name!r}"
        try:
            return called(call, what=what, timeout_s=self.timeout_s)
        except (MetricFailedError, MetricUnavailableError):
            self.has_failed = True
            raise


def score_run(
    run: RunStore | Path,
    metrics: Sequence[Metric],
    *,
    progress: Progress | None = None,
    timeout_s: float | None = None,
) -> Scoring:
    """Score all images of a run; `progress(done, total, metric name)` counts scored images.

    Metrics without their weights, metrics that fail or take longer than `timeout_s` for a chunk of
    images, and images that were not rendered, give null with the reason.
    """
    store = run if isinstance(run, RunStore) else RunStore.open(run)
    run_images = read_images(store)
    tasks = [_task(metric, run_images, timeout_s) for metric in metrics]
    stale = store.stale_scores()
    due = [
        task
        for task in tasks
        if task.metric.name in stale or task.inputs != _scored_inputs(store, task.metric.name)
    ]
    names_due = [task.metric.name for task in due]
    seconds = dict.fromkeys(names_due, 0.0)
    advance = _counter(sum(len(task.subjects) for task in due), progress)
    for task, chunk in _image_work(due):
        advance(0, task.metric.name)
        start = time.perf_counter()
        _score_chunk(task, chunk, run_images)
        seconds[task.metric.name] += time.perf_counter() - start
        advance(len(chunk), task.metric.name)
    n_scores = 0
    for task in due:
        advance(0, task.metric.name)
        start = time.perf_counter()
        rows = _rows(task, run_images)
        seconds[task.metric.name] += time.perf_counter() - start
        if task.metric.level == "group":
            advance(len(task.subjects), task.metric.name)
        store.write_scores(task.metric.name, pd.DataFrame(rows))
        _LOG.info("%s: %d scores", task.metric.name, len(rows))
        n_scores += len(rows)
    for task in tasks:
        if task.unavailable is None:
            start = time.perf_counter()
            _score_ceilings(store, task)
            spent = time.perf_counter() - start
            seconds[task.metric.name] = seconds.get(task.metric.name, 0.0) + spent
    skipped = tuple(task.metric.name for task in tasks if task.metric.name not in names_due)
    return Scoring(seconds, skipped, n_scores)


def read_scores(store: RunStore) -> list[Row]:
    """Return all scores of a run as rows of `schema.SCORES`, in a fixed order."""
    return [row for frame in store.read_parts("scores") for row in records(frame)]


def _task(metric: Metric, run_images: RunImages, timeout_s: float | None) -> _Task:
    task = _Task(metric, "unavailable", "", list(run_images.subjects), None, {}, timeout_s)
    try:
        applies = task.call(lambda: [bool(metric.applies_to(s.image)) for s in task.subjects])
        task.subjects = [s for s, is_it in zip(task.subjects, applies, strict=True) if is_it]
        task.recipe = str(task.call(metric.recipe))
    except (MetricUnavailableError, MetricFailedError) as error:
        task.unavailable = str(error)
    subjects, recipe, unavailable = task.subjects, task.recipe, task.unavailable
    facts = [
        (s.image.trial_id, s.image.plugin, s.image.image_sha256, s.missing or "") for s in subjects
    ]
    text = json.dumps([metric.name, recipe, unavailable, sorted(facts)])
    task.has_failed = False  # what has no recipe has other inputs as soon as it has one
    task.inputs = hashlib.sha256(text.encode()).hexdigest()[:20]
    return task


def _scored_inputs(store: RunStore, name: str) -> str | None:
    found = store.scores_of(name)["inputs"].tolist()
    return found[0] if found else None


def _image_work(tasks: Sequence[_Task]) -> Iterator[tuple[_Task, list[int]]]:
    """Yield chunks of neighboring images, every metric in turn on each chunk."""
    image_tasks = [task for task in tasks if task.metric.level == "image"]
    longest = max((len(task.subjects) for task in image_tasks), default=0)
    for start in range(0, longest, _CHUNK):
        for task in image_tasks:
            chunk = list(range(start, min(start + _CHUNK, len(task.subjects))))
            if chunk:
                yield task, chunk


def _score_chunk(task: _Task, chunk: Sequence[int], run_images: RunImages) -> None:
    metric: ImageMetric = task.metric  # pyright: ignore[reportAssignmentType] - level is "image"
    rendered = [i for i in chunk if task.subjects[i].missing is None]
    images = [task.subjects[i].image for i in rendered]
    if task.unavailable is not None or not images:
        return
    try:
        scores = checked_scores(task.call(lambda: metric.score(images, run_images)), images)
    except MetricUnavailableError as error:
        task.unavailable = str(error)
    except MetricFailedError as error:
        task.scores.update(dict.fromkeys(rendered, Score(None, str(error))))
    else:
        task.scores.update(zip(rendered, scores, strict=True))


def _rows(task: _Task, run_images: RunImages) -> list[Row]:
    """Return the rows of a metric; without values if its recipe is not the one of the start."""
    rows = _group_rows(task, run_images) if task.metric.level == "group" else _image_rows(task)
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
    blank["inputs"] = _FAILED
    return [{**row, **blank} for row in rows]


def _image_rows(task: _Task) -> list[Row]:
    rows = []
    for i, subject in enumerate(task.subjects):
        why = subject.missing or task.unavailable or "no score"
        score = task.scores.get(i) or Score(None, why)
        n = 0 if score.value is None else 1
        image = subject.image
        identity = {"trial_id": image.trial_id, "case_id": image.case_id, "seed": image.seed}
        rows.append({**_row(task, subject, score), **identity, "n": n})
    return rows


def _group_rows(task: _Task, run_images: RunImages) -> list[Row]:
    metric: SetMetric = task.metric  # pyright: ignore[reportAssignmentType] - level is "group"
    groups: dict[tuple[Any, ...], list[ImageToScore]] = {}
    for subject in task.subjects:
        image = subject.image
        settings = (image.t0, image.plugin_scale, image.adapter_scale)
        groups.setdefault((image.plugin, image.kind, image.method, *settings), []).append(subject)
    rows = []
    for members in groups.values():
        images = [s.image for s in members if s.missing is None]
        score = _group_score(task, metric, images, run_images)
        n = 0 if score.value is None else len(images)
        rows.append({**_row(task, members[0], _with_caution(score, members)), "n": n})
    return rows


def _group_score(
    task: _Task, metric: SetMetric, images: Sequence[ScoredImage], run_images: RunImages
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


def _row(task: _Task, subject: ImageToScore, score: Score) -> Row:
    image, metric = subject.image, task.metric
    left_out = score.leave_one_out
    return {
        "plugin": image.plugin,
        "kind": image.kind,
        "method": image.method,
        "t0": image.t0,
        "plugin_scale": image.plugin_scale,
        "adapter_scale": image.adapter_scale,
        "metric": metric.name,
        "recipe": task.recipe,
        "better": metric.better,
        "level": metric.level,
        "value": score.value,
        "reason": score.reason,
        "leave_one_out": None if left_out is None else json.dumps(dict(left_out), sort_keys=True),
        "inputs": _FAILED if task.has_failed else task.inputs,
    }


def _counter(total: int, progress: Progress | None) -> Callable[[int, str], None]:
    done = 0

    def advance(n: int, name: str) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done, total, name)

    return advance


# --- ceilings


def _score_ceilings(store: RunStore, task: _Task) -> None:
    """Write the ceilings of a metric that has them, for all cases of the plugins it applies to."""
    metric, subjects, recipe = task.metric, task.subjects, task.recipe
    ceiling = getattr(metric, "ceiling", None)
    if not _is_ceiling(ceiling) or not subjects:
        return
    images = {(s.image.plugin, s.image.case_id): s.image for s in subjects}
    inputs = _ceiling_inputs(recipe, [*images])
    if _stored_inputs(store, metric.name) == inputs:
        return
    rows: list[Row] = []
    task.has_failed = False
    for (plugin, case_id), image in sorted(images.items()):
        score = _ceiling_score(task, ceiling, image)
        found = {"value": score.value, "reason": score.reason}
        facts = {"metric": metric.name, "recipe": recipe, "inputs": inputs}
        rows.append({"plugin": plugin, "case_id": case_id, **found, **facts})
    if task.has_failed:
        rows = [{**row, "inputs": _FAILED} for row in rows]
    store.write_table("ceilings", pd.DataFrame(rows), metric.name)


def read_ceilings(store: RunStore) -> list[Row]:
    """Return all ceilings of a run as rows of `schema.CEILINGS`."""
    return [row for frame in store.read_parts("ceilings") for row in records(frame)]


def _is_ceiling(candidate: object) -> TypeGuard[Ceiling]:
    return callable(candidate)


def _ceiling_score(task: _Task, ceiling: Ceiling, image: ScoredImage) -> Score:
    try:
        return checked_score(task.call(lambda: ceiling(image)), [image])
    except (MetricUnavailableError, MetricFailedError) as error:
        return Score(None, str(error))


def _ceiling_inputs(recipe: str, keys: Sequence[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps([recipe, sorted(keys)]).encode()).hexdigest()[:20]


def _stored_inputs(store: RunStore, metric: str) -> str | None:
    frame = store.read_part("ceilings", metric)
    return None if frame.empty else str(frame["inputs"].tolist()[0])
