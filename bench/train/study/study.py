"""Compare variants of a recipe: train each with several seeds, judge each on the same scenes.

A study goes seed by seed, so that one that is cut off has all variants of the first seeds. Each
training is kept as a line of a results file with a hash of all that decides it: what is there is
never trained again, also on another machine. Several processes may work on one study.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from bench.analysis import read_run_scores
from bench.errors import UserError
from bench.plan import Selection
from bench.registry import find_metric, known_names
from bench.run import RunRequest, run_benchmark
from bench.train.models import fingerprint
from bench.train.recipe import load_recipe
from bench.train.run import train_recipe
from bench.train.schema import Recipe
from metrics.stats import Estimate
from metrics.stats.crossed import crossed_mean
from metrics.stats.quantity import set_quantity
from plugins_manifest.documents import parse_json
from plugins_manifest.files import atomic_write
from plugins_manifest.schema import load_manifest

DIGITS = 4  # of a stored score
_FREE = ("name", "log", "checkpoint_every")  # what a mapper does not depend on


@dataclass(frozen=True)
class Variant:
    """A change of a study's recipe: values by dotted key, as of `load_recipe`.

    `manifest` is rendered and scored with each of its mappers. Variants with equal overrides
    share their trainings. The reference, with which others are compared, keeps also the scores
    that depend on no mapper.
    """

    name: str
    overrides: Mapping[str, Any]
    manifest: Path
    is_reference: bool = False


@dataclass(frozen=True)
class Score:
    """One metric of one way to make images; `by_scene` in the order of the training's scenes.

    The mean of `by_scene` is the score: of a set metric they are jackknife pseudo-values.
    """

    plugin: str
    method: str
    t0: float | None
    adapter_scale: float | None
    metric: str
    by_scene: tuple[float, ...]


@dataclass(frozen=True)
class Trained:
    """A variant trained with one seed; `key` is the hash of what decided its scores."""

    variant: str
    seed: int
    key: str
    mse: float
    scenes: tuple[str, ...]
    scores: tuple[Score, ...]


def read_results(path: Path) -> list[Trained]:
    """Return the trainings of a results file: one line of JSON for each; none without a file."""
    return [_read(line) for line in _lines(path)]


@dataclass(frozen=True)
class Study:
    """Variants of one recipe. `common` are overrides of all of them, before their own.

    `work` has the checkpoints, the pictures that all trainings share and the rendered images.
    """

    recipe: str | Path
    common: Mapping[str, Any]
    variants: Sequence[Variant]
    results: Path
    work: Path

    def recipe_of(self, variant: Variant, seed: int) -> Recipe:
        """Return the recipe of one training."""
        return load_recipe(self.recipe, {**self.common, **variant.overrides, "seed": seed})

    @cached_property
    def _models(self) -> dict[str, str]:
        return fingerprint(load_recipe(self.recipe, self.common))

    def key_of(self, variant: Variant, seed: int) -> str:
        """Return the hash of all that decides the scores of one training."""
        manifest = load_manifest(str(variant.manifest), known=known_names())
        # a metric may be defined anew under its name
        recipes = [find_metric(name).recipe() for name in manifest.metrics]
        return self._hash(variant, seed, judged=[manifest.fingerprint(), *recipes])

    def _hash(self, variant: Variant, seed: int, **more: Any) -> str:
        recipe = self.recipe_of(variant, seed).as_data()
        data = {key: value for key, value in recipe.items() if key not in _FREE}
        whole = json.dumps({**data, "models": self._models, **more}, sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()[:16]

    def trainings(self, seeds: Iterable[int]) -> Iterator[Trained]:
        """Train and judge what the results lack, seed by seed; yield each after it is kept.

        What another process works on is left to it. Raises `UserError`; the same call goes on
        where it was cut off.
        """
        for seed in seeds:
            for variant in self.variants:
                key = self.key_of(variant, seed)
                lock = FileLock(self.work / f"{key}.lock")
                with suppress(Timeout), lock.acquire(timeout=0):
                    if all(t.key != key for t in read_results(self.results)):
                        trained = self.train(variant, seed)
                        self._keep(trained)
                        yield trained

    def current(self) -> list[Trained]:
        """Return the trainings in the results that this study would make, of any seeds."""
        variants = {variant.name: variant for variant in self.variants}
        return [
            t
            for t in read_results(self.results)
            if t.variant in variants and self.key_of(variants[t.variant], t.seed) == t.key
        ]

    def train(self, variant: Variant, seed: int) -> Trained:
        """Train a variant with one seed, render and score with its mapper."""
        folder = self.work / f"mapper-{seed}-{self._hash(variant, seed)}"
        recipe = self.recipe_of(variant, seed)
        result = train_recipe(recipe, out_dir=folder, data_dir=self.work / "data", progress=False)
        mse = float(_lines(folder / "metrics.jsonl")[-1]["mse"])
        key = self.key_of(variant, seed)
        run = folder / f"{variant.manifest.stem}-{key}"
        scenes, found = judge(variant.manifest, result.mapper_path, run)
        scores = [s for s in found if variant.is_reference or s.adapter_scale is not None]
        return Trained(variant.name, seed, key, mse, scenes, tuple(scores))

    def _keep(self, trained: Trained) -> None:
        """Write a training into the results; it replaces an older one of its variant and seed."""
        place = (trained.variant, trained.seed)
        with FileLock(self.work / "results.lock"):
            kept = [t for t in read_results(self.results) if (t.variant, t.seed) != place]
            ordered = sorted([*kept, trained], key=lambda t: (t.seed, t.variant))
            lines = [
                json.dumps(asdict(t), ensure_ascii=False, separators=(",", ":")) for t in ordered
            ]
            atomic_write(self.results, "\n".join(lines) + "\n")


def judge(manifest: Path, mapper: Path, out: Path) -> tuple[tuple[str, ...], tuple[Score, ...]]:
    """Render and score a manifest with a mapper in `out`; return the scenes and the scores."""
    request = RunRequest(str(manifest), Selection(adapter=mapper), out=out, show_progress=False)
    run_benchmark(request)
    found = read_run_scores(out)
    by_cell: dict[tuple[Any, str], Mapping[str, float]] = {}
    for place, cell in found.cells.items():
        if cell.group is not None:
            by_cell[place] = set_quantity(*cell.group, n=cell.n).sums
        elif cell.by_pair:
            by_cell[place] = _means(
                (found.prompt_of[case], value) for (case, _), value in cell.by_pair.items()
            )
    scenes = tuple(sorted(set().union(*by_cell.values())))
    scores = []
    for (arm, metric), values in by_cell.items():
        if values.keys() != set(scenes):
            raise UserError(
                f"{out}: {metric} of {arm.plugin} has {len(values)} of {len(scenes)} scenes: "
                "see its failed images in `xbench show`"
            )
        numbers = tuple(round(values[scene], DIGITS) for scene in scenes)
        scores.append(Score(arm.plugin, arm.method, arm.t0, arm.adapter_scale, metric, numbers))
    return scenes, tuple(scores)


@dataclass(frozen=True)
class Way:
    """A way to make images with a trained mapper."""

    method: str
    t0: float | None
    adapter_scale: float | None = None


@dataclass(frozen=True)
class Measure:
    """A column of a table: a metric, as the mean over some plugins."""

    title: str
    metric: str
    plugins: tuple[str, ...]


def scene_values(
    trained: Iterable[Trained], variant: str, way: Way, measure: Measure
) -> dict[int, np.ndarray]:
    """Return seed -> values [scenes] of a variant's mappers; their mean is the score."""
    found = {}
    for one in trained:
        rows = [
            score.by_scene
            for score in one.scores
            if score.metric == measure.metric and score.plugin in measure.plugins
            if Way(score.method, score.t0, score.adapter_scale) == way
        ]
        if one.variant == variant and len(rows) == len(measure.plugins):
            found[one.seed] = np.mean(rows, axis=0)
    return found


def seed_difference(a: Mapping[int, np.ndarray], b: Mapping[int, np.ndarray]) -> Estimate:
    """Return the mean of a - b over the seeds that both have, paired by seed and scene."""
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return Estimate(None, None, None, 0, 0, "no seed in common")
    return crossed_mean(np.array([a[seed] - b[seed] for seed in shared]))


def _means(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for scene, value in pairs:
        found.setdefault(scene, []).append(value)
    return {scene: sum(values) / len(values) for scene, values in found.items()}


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    return [parse_json(line, name=path.name, starts_at=n) for n, line in lines if line]


def _read(line: Mapping[str, Any]) -> Trained:
    scores = tuple(Score(**{**s, "by_scene": tuple(s["by_scene"])}) for s in line["scores"])
    return Trained(**{**line, "scenes": tuple(line["scenes"]), "scores": scores})
