"""Ceilings of condition metrics: the score of the source pictures, one a plugin and case."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TypeGuard

import pandas as pd

from bench.scoring.checked import FAILED, MetricFailedError, checked_score
from bench.scoring.images import RunImages
from bench.scoring.task import Task
from bench.store import Row, RunStore, records
from metrics.base import MetricUnavailableError, Score, ScoredImage

Ceiling = Callable[[ScoredImage], Score]


def score_ceilings(store: RunStore, task: Task, run_images: RunImages) -> None:
    """Write the ceilings of a metric that has them, for all cases of the plugins it applies to."""
    metric, recipe = task.metric, task.recipe
    subjects = [run_images.subjects[place] for place in task.places]
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
        rows = [{**row, "inputs": FAILED} for row in rows]
    store.write_table("ceilings", pd.DataFrame(rows), metric.name)


def read_ceilings(store: RunStore) -> list[Row]:
    """Return all ceilings of a run as rows of `schema.CEILINGS`."""
    return [row for frame in store.read_parts("ceilings") for row in records(frame)]


def _is_ceiling(candidate: object) -> TypeGuard[Ceiling]:
    return callable(candidate)


def _ceiling_score(task: Task, ceiling: Ceiling, image: ScoredImage) -> Score:
    try:
        return checked_score(task.call(lambda: ceiling(image)), [image])
    except (MetricUnavailableError, MetricFailedError) as error:
        return Score(None, str(error))


def _ceiling_inputs(recipe: str, keys: Sequence[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps([recipe, sorted(keys)]).encode()).hexdigest()[:20]


def _stored_inputs(store: RunStore, metric: str) -> str | None:
    frame = store.read_part("ceilings", metric)
    return None if frame.empty else str(frame["inputs"].tolist()[0])
