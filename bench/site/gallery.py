"""The prompts, images and scores of a run directory, as `bench.site.examples` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.analysis import Arm, arm_order
from bench.publish.redaction import Privacy
from bench.scoring import ImageToScore, RunImages
from bench.site.examples import Example, Pair, Scores, Shot, examples
from bench.store import Row


class Gallery:
    """A run's images by plugin, prompt and setting, with the scores of each image."""

    def __init__(
        self, images: RunImages, scores: Sequence[Row], privacy: Privacy, *, run: str
    ) -> None:
        self._privacy, self._run = privacy, run
        self._images: dict[str, dict[Pair, dict[Arm, ImageToScore]]] = {}
        for subject in images.subjects:
            i = subject.image
            arm = Arm(i.plugin, i.kind, i.method, i.t0, i.plugin_scale, i.adapter_scale, i.adapter)
            pairs = self._images.setdefault(i.plugin, {})
            pairs.setdefault((i.case_id, i.seed), {})[arm] = subject
        self._scores = {
            (row["plugin"], row["trial_id"], row["metric"]): row["value"]
            for row in scores
            if row["level"] == "image"
        }

    def pairs(self, plugin: str) -> list[Pair]:
        """Return a plugin's prompts and seeds, sorted."""
        return sorted(self._images.get(plugin, {}))

    def scores(self, plugin: str, metric: str) -> Scores:
        """Return a metric by prompt and seed, then by setting."""
        found: dict[Pair, dict[Arm, float]] = {}
        for pair, there in self._images.get(plugin, {}).items():
            for arm, subject in there.items():
                value = self._score(subject, metric)
                if value is not None:
                    found.setdefault(pair, {})[arm] = value
        return found

    def examples(
        self, plugin: str, metric: str | None, chosen: Mapping[Pair, tuple[str, ...]]
    ) -> list[Example]:
        """Return examples of some prompts and seeds, in their order."""
        return [self._example(plugin, metric, pair, titles) for pair, titles in chosen.items()]

    def typical(self, shown: Row) -> Example | None:
        """Return the first of a plugin's examples; None if it has no images."""
        return next(iter(examples(self, shown)), None)

    def _score(self, subject: ImageToScore, metric: str | None) -> float | None:
        return self._scores.get((subject.image.plugin, subject.image.trial_id, metric or ""))

    def _example(
        self, plugin: str, metric: str | None, pair: Pair, titles: tuple[str, ...]
    ) -> Example:
        there = self._images[plugin][pair]
        first = next(iter(there.values())).image
        shots = tuple(
            Shot(
                arm=arm,
                run=self._run,
                trial_id=subject.image.trial_id,
                load=subject.image.load_picture,
                missing=None if subject.missing is None else "not rendered",
                score=self._score(subject, metric),
            )
            for arm, subject in sorted(there.items(), key=lambda item: arm_order(item[0]))
        )
        conditions = [s.image.load_condition for s in there.values() if s.image.load_condition]
        load = conditions[0] if conditions else None
        return Example(titles, self._privacy.content(first.prompt), first.seed, load, shots)
