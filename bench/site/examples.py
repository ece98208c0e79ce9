"""Example prompts of a plugin: a typical one, the best and the worst, with every method's image.

Prompts are ordered by how much of the plugin's function the shown setting's image has lost against
the base model's image of the same prompt and seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.analysis import Arm, arm_order
from bench.analysis.summary import arm_of
from bench.publish.redaction import Privacy
from bench.scoring import ImageToScore, RunImages
from bench.store import Row

_Pair = tuple[str, int]  # case id, seed
_TITLES = ("Typical prompt", "Best prompt", "Worst prompt")


@dataclass(frozen=True)
class Shot:
    """One image of an example, or why it is missing; `score` is that of the plugin's function.

    `key` tells the images of a site apart: runs may share trials, and differ in their pixels.
    """

    arm: Arm
    trial_id: str
    key: str
    load: Callable[[], np.ndarray]
    missing: str | None
    score: float | None


@dataclass(frozen=True)
class Example:
    """One prompt with the images of all settings in the reading order."""

    title: str
    prompt: str
    seed: int
    load_condition: Callable[[], np.ndarray] | None
    shots: tuple[Shot, ...]

    def before(self, arm: Arm) -> Shot | None:
        """Return the base model's image at a setting's plugin scale, or the nearest to it."""
        base = base_of([shot.arm for shot in self.shots], arm)
        return None if base is None else self.shot_of(base)

    def shot(self, method: str) -> Shot | None:
        """Return the first image of a method, such as floor; None if there is none."""
        return next((shot for shot in self.shots if shot.arm.method == method), None)

    def shot_of(self, arm: Arm) -> Shot | None:
        """Return the image of one setting; None if there is none."""
        return next((shot for shot in self.shots if shot.arm == arm), None)


class Gallery:
    """A run's images by plugin, prompt and setting, with the scores of each image."""

    def __init__(
        self, images: RunImages, scores: Sequence[Row], privacy: Privacy, *, run: str
    ) -> None:
        self.privacy, self.run = privacy, run
        self._pairs: dict[str, dict[_Pair, dict[Arm, ImageToScore]]] = {}
        for subject in images.subjects:
            i = subject.image
            arm = Arm(i.plugin, i.kind, i.method, i.t0, i.plugin_scale, i.adapter_scale)
            pairs = self._pairs.setdefault(i.plugin, {})
            pairs.setdefault((i.case_id, i.seed), {})[arm] = subject
        self._scores = {
            (row["plugin"], row["trial_id"], row["metric"]): row["value"]
            for row in scores
            if row["level"] == "image"
        }

    def pairs(self, plugin: str) -> Mapping[_Pair, Mapping[Arm, ImageToScore]]:
        """Return the images of a plugin by prompt and seed, then by setting."""
        return self._pairs.get(plugin, {})

    def score(self, subject: ImageToScore, metric: str | None) -> float | None:
        """Return an image's score; None if it has none."""
        return self._scores.get((subject.image.plugin, subject.image.trial_id, metric or ""))


def examples(gallery: Gallery, shown: Row) -> tuple[Example, ...]:
    """Return a typical prompt, the best and the worst one; the first ones without scores."""
    plugin, metric = shown["plugin"], shown["function_metric"]
    pairs = gallery.pairs(plugin)
    order = _ordered(gallery, pairs, shown)
    if order:
        places = dict.fromkeys((len(order) // 2, len(order) - 1, 0))
        chosen = [(title, order[i]) for title, i in zip(_TITLES, places, strict=False)]
    else:
        chosen = [(f"Prompt {i}", pair) for i, pair in enumerate(sorted(pairs)[:3], start=1)]
    return tuple(_example(gallery, title, pairs[pair], metric) for title, pair in chosen)


def base_of(arms: Iterable[Arm], arm: Arm) -> Arm | None:
    """Return the base model's setting whose plugin scale is nearest to another's."""
    own = 1.0 if arm.plugin_scale is None else arm.plugin_scale

    def distance(base: Arm) -> float:
        return abs((1.0 if base.plugin_scale is None else base.plugin_scale) - own)

    return min((a for a in arms if a.method == "base"), key=distance, default=None)


def _ordered(
    gallery: Gallery, pairs: Mapping[_Pair, Mapping[Arm, ImageToScore]], shown: Row
) -> list[_Pair]:
    """Return the prompts that have a score, the worst first."""
    arm, metric = arm_of(shown), shown["function_metric"]
    sign = -1.0 if shown["function_better"] == "lower" else 1.0
    ranked = []
    for pair, there in pairs.items():
        own = there.get(arm)
        value = None if own is None else gallery.score(own, metric)
        if value is None:
            continue
        base = base_of(there, arm)
        home = None if base is None else gallery.score(there[base], metric)
        ranked.append((sign * (value - (home or 0.0)), pair))
    return [pair for _, pair in sorted(ranked)]


def _example(
    gallery: Gallery, title: str, there: Mapping[Arm, ImageToScore], metric: str | None
) -> Example:
    first = next(iter(there.values())).image
    shots = tuple(
        Shot(
            arm=arm,
            trial_id=subject.image.trial_id,
            key=f"{gallery.run} {subject.image.trial_id}",
            load=subject.image.load_picture,
            missing=None if subject.missing is None else "not rendered",
            score=gallery.score(subject, metric),
        )
        for arm, subject in sorted(there.items(), key=lambda item: arm_order(item[0]))
    )
    conditions = [s.image.load_condition for s in there.values() if s.image.load_condition]
    load = conditions[0] if conditions else None
    return Example(title, gallery.privacy.content(first.prompt), first.seed, load, shots)
