"""What the source pictures themselves score: the ceiling of a condition metric.

scores/ceilings/<metric>.parquet, a row for each plugin and case; asked once while the cases and
the recipe stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TypeGuard

import pandas as pd

from bench.scoring.images import ImageToScore
from bench.store import schema
from bench.store.files import read_table
from bench.store.rows import Row, records
from bench.store.run_store import RunStore
from metrics.base import Metric, MetricUnavailableError, Score, ScoredImage

Ceiling = Callable[[ScoredImage], Score]


def score_ceilings(
    store: RunStore, metric: Metric, subjects: Sequence[ImageToScore], *, recipe: str
) -> None:
    """Write the ceilings of a metric that has them, for all cases of the plugins it applies to."""
    ceiling = getattr(metric, "ceiling", None)
    if not _is_ceiling(ceiling) or not subjects:
        return
    images = {(s.image.plugin, s.image.case_id): s.image for s in subjects}
    inputs = _inputs(recipe, [*images])
    if _inputs_of(store, metric.name) == inputs:
        return
    rows = []
    for (plugin, case_id), image in sorted(images.items()):
        score = _ask(ceiling, image)
        found = {"value": score.value, "reason": score.reason}
        facts = {"metric": metric.name, "recipe": recipe, "inputs": inputs}
        rows.append({"plugin": plugin, "case_id": case_id, **found, **facts})
    store.write_table("ceilings", pd.DataFrame(rows), metric.name)


def read_ceilings(store: RunStore) -> list[Row]:
    """All ceilings of a run: rows of `schema.CEILINGS`."""
    return [row for frame in store.read_parts("ceilings") for row in records(frame)]


def _is_ceiling(asked: object) -> TypeGuard[Ceiling]:
    return callable(asked)


def _ask(ceiling: Ceiling, image: ScoredImage) -> Score:
    try:
        return ceiling(image)
    except MetricUnavailableError as error:
        return Score(None, str(error))


def _inputs(recipe: str, keys: Sequence[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps([recipe, sorted(keys)]).encode()).hexdigest()[:20]


def _inputs_of(store: RunStore, metric: str) -> str | None:
    path = store.table_path("ceilings", metric)
    if not path.exists():
        return None
    frame = read_table(path, schema.CEILINGS)
    return None if frame.empty else str(frame["inputs"].tolist()[0])
