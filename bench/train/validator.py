"""Validate a mapper by a benchmark run, keep the best one, and end a training that stands still.

What was best and for how long follows from the rows of `validation.jsonl` alone, so a resumed
training chooses as an uninterrupted one.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import nn

from bench.analysis.measures import PLAIN_KINDS, choose
from bench.errors import UserError, shown_path
from bench.registry import find_method
from bench.render import KeptModels
from bench.report import draw_overview
from bench.run import run_benchmark
from bench.store import Row, RunStore, grouped, records
from bench.train.models import Models
from bench.train.pictures import Note
from bench.train.schema import Recipe
from bench.train.validation import (
    BEST,
    FOLDER,
    ROLES,
    manifest_of,
    validation_of,
    validation_request,
)
from plugins_manifest.documents import read_json
from plugins_manifest.files import atomic_write
from plugins_manifest.text import duration
from runners.guard import ModelsState, models_state
from xadapter.checkpoint import written
from xadapter.load import load_mapper, save_mapper
from xadapter.processes import Processes
from xadapter.train import TrainResult
from xadapter.validation import Validation, read_validations

SHEET = "sheet.png"
_MAPPER, _CHOICE = "mapper", "best.json"


@dataclass(frozen=True)
class Score:
    """A run's value of a score, and whether more is better."""

    value: float
    is_higher_better: bool


def validations_since_best(values: Sequence[float], *, is_higher_better: bool) -> int:
    """Return how many values came after the first of the best ones; 0 if the last is the best."""
    signed = [value if is_higher_better else -value for value in values]
    return len(values) - 1 - signed.index(max(signed))


class BenchmarkValidator:
    """A `Validator` that renders and scores the validation of a recipe.

    The models of the training render too where the manifest has the recipe's precision; else those
    of its own are loaded once.
    """

    def __init__(
        self, recipe: Recipe, out_dir: Path, models: Models, *, device: str, note: Note
    ) -> None:
        self.recipe, self.out_dir, self.device, self.note = recipe, out_dir, device, note
        is_shared = manifest_of(recipe).settings.dtype == models.family.dtype
        self.shared = models.family if is_shared else None
        self.kept = KeptModels(self.shared)

    def __call__(self, step: int, mapper: nn.Module) -> Validation:
        """Run the validation of a step into `validation/STEP`; keep the mapper if it is the best.

        Raises `UserError` if the score that chooses cannot be computed, and if a method changed the
        models of the training.
        """
        started, before = time.monotonic(), self._state()
        folder = self.out_dir / FOLDER
        candidate = folder / _MAPPER
        write_mapper(mapper, candidate)
        request = validation_request(
            self.recipe,
            out=folder / str(step),
            adapter=candidate,
            device=self.device,
            models=self.kept,
        )
        outcome = run_benchmark(request)
        self._require_same(before)
        store = RunStore.open(outcome.folder)
        with store.lock():
            store.write_file(store.folder / SHEET, draw_overview(store))
        found = scores_of(store)
        chosen = self._chosen(found, store, step)
        n_since = validations_since_best(
            [*self._earlier(step), chosen.value], is_higher_better=chosen.is_higher_better
        )
        if n_since == 0:
            self._keep(mapper, step, chosen)
        shutil.rmtree(candidate)
        patience = validation_of(self.recipe).patience
        is_last = patience is not None and n_since >= patience
        if outcome.n_failed:
            what = f"{outcome.n_failed} of {outcome.n_trials} images failed"
            self.note(f"validation at step {step}: {what}, see {shown_path(store.report_path())}")
        seconds = time.monotonic() - started
        self._tell(step, found, is_best=n_since == 0, is_last=is_last, seconds=seconds)
        return Validation({name: one.value for name, one in found.items()}, is_last)

    def _state(self) -> ModelsState | None:
        return None if self.shared is None else models_state(self.shared)

    def _require_same(self, before: ModelsState | None) -> None:
        after = self._state()
        if before is None or after is None:
            return
        if (changed := after.changed_since(before)) is not None:
            raise UserError(
                f"the validation changed {changed}, which the training uses: leave out the methods "
                "and plugins of other packages, then run the same command again"
            )

    def _chosen(self, found: Mapping[str, Score], store: RunStore, step: int) -> Score:
        name = validation_of(self.recipe).score
        if name not in found:
            raise UserError(
                f"the validation of step {step} has no value of {name!r}: {_reason(store, name)}; "
                f"use another score ({', '.join(found) or 'none has a value'}) or more cases"
            )
        return found[name]

    def _earlier(self, step: int) -> list[float]:
        """Return the values of the score that chooses at earlier steps."""
        name = validation_of(self.recipe).score
        rows = read_validations(self.out_dir)
        return [row[name] for row in rows if row["step"] < step and name in row]

    def _keep(self, mapper: nn.Module, step: int, chosen: Score) -> None:
        folder = self.out_dir / BEST
        write_mapper(mapper, folder / _MAPPER)
        name = validation_of(self.recipe).score
        facts = {"step": step, "score": name, "value": chosen.value}
        atomic_write(folder / _CHOICE, json.dumps(facts, indent=2) + "\n")

    def _tell(
        self,
        step: int,
        found: Mapping[str, Score],
        *,
        is_best: bool,
        is_last: bool,
        seconds: float,
    ) -> None:
        spec = validation_of(self.recipe)
        names = dict.fromkeys([*(name for name in ROLES if name in found), spec.score])
        text = ", ".join(f"{name} {found[name].value:.3f}" for name in names)
        if is_best:
            text += f"; the best {spec.score} so far"
        if is_last:
            text += f"; no better {spec.score} in {spec.patience} validations: training ends"
        self.note(f"validation at step {step}: {text} ({duration(seconds)})")


def write_mapper(mapper: nn.Module, folder: Path) -> None:
    """Write a mapper's folder, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with written(folder) as draft:
        save_mapper(mapper, draft)


def scores_of(store: RunStore) -> dict[str, Score]:
    """Return the scores of a run by name: of the roles, then of each metric.

    Each is the mean over plugins of the mean over the settings of methods with a mapper.
    `function` is the share of the plugin's effect that is kept, `text` the metric of the prompt,
    `quality` the distance to what images should look like. What has no value is left out.
    """
    settings = [r for r in records(store.compatibility()) if r["level"] == "setting"]
    rows = [row for row in records(store.summary()) if _is_of_mapper(row)]
    by_metric: dict[str, list[Row]] = {}
    for row in rows:
        by_metric.setdefault(row["metric"], []).append(row)
    found = {
        "function": _mean(_kept(settings), "kept", is_higher_better=True),
        "text": _mean(_text_rows(by_metric), "value", is_higher_better=True),
        "quality": _mean(filter(_shows_quality, settings), "quality", is_higher_better=False),
    }
    for metric, own in by_metric.items():
        is_higher = own[0]["better"] == "higher"
        found[metric] = _mean(own, "value", is_higher_better=is_higher)
    return {name: score for name, score in found.items() if score is not None}


def _is_of_mapper(row: Row) -> bool:
    return find_method(row["method"]).uses_adapter


def _kept(settings: Sequence[Row]) -> Iterator[Row]:
    """Yield the share of a plugin's effect that each setting keeps, (f - f_floor) / (f_base - ..).

    The tables have none below 12 prompts, where the divisor is too uncertain. Here it is the same
    in all validations of a training, and so are the plugins without an effect that are left out.
    """
    for own in grouped(settings, "plugin").values():
        means = {m: [r["function"] for r in own if r["method"] == m] for m in ("base", "floor")}
        base, floor = (next(iter(means[m]), None) for m in ("base", "floor"))
        if base is None or floor is None:
            continue
        sign = 1.0 if own[0]["function_better"] == "higher" else -1.0
        if (effect := sign * (base - floor)) <= 0:
            continue
        for row in filter(_is_of_mapper, own):
            if row["function"] is not None:
                yield {**row, "kept": sign * (row["function"] - floor) / effect}


def _text_rows(by_metric: Mapping[str, list[Row]]) -> list[Row]:
    """Return the rows of the metric that compares images with their prompts, if a run has one."""
    name = choose("text", [m for m, rows in by_metric.items() if _values(rows, "value")])
    return [] if name is None else by_metric[name]


def _shows_quality(row: Row) -> bool:
    """Return whether a distance leaves the plugin's style out."""
    is_plain = row["kind"] in PLAIN_KINDS or row["quality_reference"] != "floor"
    return is_plain and _is_of_mapper(row)


def _mean(rows: Iterable[Row], column: str, *, is_higher_better: bool) -> Score | None:
    by_plugin = grouped(rows, "plugin").values()
    means = [fmean(values) for own in by_plugin if (values := _values(own, column))]
    return Score(fmean(means), is_higher_better) if means else None


def _values(rows: Iterable[Row], column: str) -> list[float]:
    return [row[column] for row in rows if row[column] is not None]


def _reason(store: RunStore, name: str) -> str:
    """Return why a run has no value of a score."""
    column = {"function": "reason", "quality": "quality_reason"}.get(name)
    rows = filter(_is_of_mapper, records(store.compatibility()))
    if column is None:
        rows, column = filter(_is_of_mapper, records(store.scores_of(name))), "reason"
    found = dict.fromkeys(row[column] for row in rows if row[column])
    return "; ".join(found) or "no image of a method with a mapper has one"


def with_best(out_dir: Path, result: TrainResult, processes: Processes) -> TrainResult:
    """Return the result with the best mapper of the validations, which rank 0 puts in `mapper/`."""
    if processes.agree(best_of(out_dir)) is None:  # stopped before the first one
        return result
    best = out_dir / BEST / _MAPPER

    def put() -> None:
        with written(result.mapper_path) as draft:
            shutil.copytree(best, draft)

    processes.on_main(put)
    mapper = load_mapper(best).to(processes.device).eval().requires_grad_(False)
    return replace(result, mapper=mapper)


def best_of(out_dir: Path) -> dict[str, Any] | None:
    """Return step, score and value of the best mapper of a folder; None without validations."""
    path = out_dir / BEST / _CHOICE
    return read_json(path) if path.is_file() and read_validations(out_dir) else None
