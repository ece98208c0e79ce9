"""Scores of single images: conditions found again, and places in the pocket scorer's features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tests.recompute import pictures
from tests.recompute.files import RunFiles, Subject

STYLE_KINDS = ("lora", "lycoris", "ip_adapter", "textual_inversion")
EXACT, NETWORK = 1e-9, 2e-5  # tolerances: counts of pixels; float32 features


class Features:
    """Unit features of pictures and texts, and feature maps, by the shipped pocket scorer."""

    def __init__(self, run: RunFiles) -> None:
        self.run = run
        self._rows: dict[object, np.ndarray] = {}

    @cached_property
    def scorer(self):
        """The shipped network."""
        from pocket.scorer import load_scorer

        return load_scorer()

    def of(self, subject: Subject) -> np.ndarray:
        """Return the unit feature [D] of an image."""
        if subject.path not in self._rows:
            row = self.scorer.encode_images([self.run.pixels(subject.path)])[0].astype(float)
            self._rows[subject.path] = row / np.sqrt(np.einsum("d,d", row, row))
        return self._rows[subject.path]

    def stacked(self, subjects: Iterable[Subject]) -> np.ndarray:
        """Return unit features [N, D]."""
        return np.stack([self.of(subject) for subject in subjects])

    def of_text(self, text: str) -> np.ndarray:
        """Return the unit feature [D] of a prompt."""
        if text not in self._rows:
            row = self.scorer.encode_texts([text])[0].astype(float)
            self._rows[text] = row / np.linalg.norm(row)
        return self._rows[text]

    def maps(self, subject: Subject) -> list[np.ndarray]:
        """Return five feature maps, each with unit length over channels, C x h x w."""
        found = self.scorer.feature_maps([self.run.pixels(subject.path)])
        planes = [m[0].numpy().astype(float) for m in found]
        return [p / (np.linalg.norm(p, axis=0) + 1e-10) for p in planes]


@dataclass(frozen=True)
class ImageMetric:
    """A score of one image, None where it has none, and how exactly it can be recomputed."""

    score: Callable[[Subject], float | None]
    tolerance: float


def image_metrics(run: RunFiles, features: Features) -> dict[str, ImageMetric]:
    """Return the metrics of single images that are recomputed here, by name."""
    found = {
        name: ImageMetric(lambda s, m=measure, t=tolerance: _edges(run, s, m, t), EXACT)
        for name, measure, tolerance in (
            ("edge-f1", "f1", 0),
            ("edge-f1-1px", "f1", 1),
            ("edge-f1-2px", "f1", 2),
            ("edge-iou", "iou", 0),
            ("edge-precision", "precision", 0),
            ("edge-recall", "recall", 0),
        )
    }
    found["mask-iou"] = ImageMetric(lambda s: _mask(run, s), EXACT)
    found["pocket-style-rate"] = ImageMetric(_StyleRate(run), EXACT)
    relative = _Relative(run, features)
    found |= {
        "pocket-clip": ImageMetric(
            lambda s: float(features.of(s) @ features.of_text(s.prompt)), NETWORK
        ),
        "pocket-lpips": ImageMetric(relative.lpips, 1e-4),
        "pocket-style": ImageMetric(relative.style, NETWORK),
        "pocket-style-paper": ImageMetric(relative.style_paper, NETWORK),
        # a projection is divided by a length below 1
        "pocket-style-projection": ImageMetric(relative.projection, 2e-4),
    }
    return found


def condition_measure(
    name: str, found: np.ndarray, wanted: np.ndarray, tolerance_px: int = 0
) -> float | None:
    """Return a measure of two sets of pixels [H, W] from precision and recall."""
    precision, recall = pictures.overlap(found, wanted, tolerance_px)
    if np.isnan(recall):
        return None
    if name == "recall":
        return recall
    if name == "precision":
        return None if np.isnan(precision) else precision
    if name == "iou":
        return float((found & wanted).sum() / (found | wanted).sum())
    if np.isnan(precision) or precision * recall == 0:
        return 0.0
    return float(2 / (1 / precision + 1 / recall))


def _edges(run: RunFiles, subject: Subject, measure: str, tolerance_px: int) -> float | None:
    condition = run.condition(subject.plugin, subject.case_id)
    if condition is None:
        return None
    small = pictures.resized(run.pixels(subject.path), condition.shape[0])
    wanted = condition.max(axis=-1) > 127
    return condition_measure(measure, pictures.canny(small), wanted, tolerance_px)


def _mask(run: RunFiles, subject: Subject) -> float | None:
    condition = run.condition(subject.plugin, subject.case_id)
    if condition is None:
        return None
    small = pictures.resized(run.pixels(subject.path), condition.shape[0])
    return condition_measure("iou", pictures.silhouettes(small), condition.max(axis=-1) > 127)


class _StyleRate:
    """1 where a picture is read in the style of the plugin's trigger, else 0."""

    def __init__(self, run: RunFiles) -> None:
        from pocket.scenes import STYLE_WORDS

        self.run = run
        self.style_of = {words: style for style, words in STYLE_WORDS.items()}

    def __call__(self, subject: Subject) -> float | None:
        style = self.style_of.get(self.run.plugin(subject.plugin).get("trigger"))
        if style is None:
            return None
        picture = pictures.enlarged(self.run.pixels(subject.path), 128)
        return float(pictures.read_style(picture) == style)


class _Relative:
    """Scores in comparison with other images of the same plugin."""

    def __init__(self, run: RunFiles, features: Features) -> None:
        self.features = features
        self.base: dict[tuple[str, str, int], list[Subject]] = {}
        self.floor: dict[str, list[Subject]] = {}
        for subject in run.subjects:
            if subject.method == "base":
                key = (subject.plugin, subject.case_id, subject.seed)
                self.base.setdefault(key, []).append(subject)
            elif subject.method == "floor":
                self.floor.setdefault(subject.plugin, []).append(subject)

    def lpips(self, subject: Subject) -> float | None:
        """Zhang et al. 2018, eq. 1 with all weights 1, to the base image."""
        base = self._base_of(subject)
        if base is None or subject.method == "base":
            return None
        pairs = zip(self.features.maps(subject), self.features.maps(base), strict=True)
        return float(sum(np.einsum("chw->hw", (a - b) ** 2).mean() for a, b in pairs))

    def style_paper(self, subject: Subject) -> float | None:
        """Cosine to the base image of the same case and seed."""
        base = self._base_of(subject)
        if base is None or subject.method == "base":
            return None
        return float(self.features.of(subject) @ self.features.of(base))

    def style(self, subject: Subject) -> float | None:
        """Mean cosine to the base images of all other prompts."""
        bank = self._bank(subject)
        if not bank:
            return None
        return float(np.mean([self.features.of(subject) @ self.features.of(b) for b in bank]))

    def projection(self, subject: Subject) -> float | None:
        """Place between the mean floor (0) and base image (1) of other prompts, along the step."""
        bank = self._bank(subject)
        others = [f for f in self.floor.get(subject.plugin, []) if f.prompt != subject.prompt]
        if not bank or not others:
            return None
        start, end = (
            np.mean([self.features.of(s) for s in side], axis=0) for side in (others, bank)
        )
        # least squares: x - start = place (end - start) + rest
        solved = np.linalg.lstsq((end - start)[:, None], self.features.of(subject) - start)
        return float(solved[0][0])

    def _base_of(self, subject: Subject) -> Subject | None:
        return _at_scale(
            self.base.get((subject.plugin, subject.case_id, subject.seed), []), subject
        )

    def _bank(self, subject: Subject) -> list[Subject]:
        sets = [found for key, found in self.base.items() if key[0] == subject.plugin]
        chosen = [_at_scale(found, subject) for found in sets]
        return [s for s in chosen if s is not None and s.prompt != subject.prompt]


def _at_scale(found: list[Subject], subject: Subject) -> Subject | None:
    """Return the image of the same plugin scale, else that whose scale is nearest to 1."""
    wanted = 1.0 if subject.plugin_scale is None else subject.plugin_scale
    same = [s for s in found if s.plugin_scale == wanted]
    return min(same or found, key=lambda s: abs((s.plugin_scale or 1.0) - 1.0), default=None)
