"""Condition reconstruction: how far the condition is found again in the image made under it.

Exact-pixel measures and the tolerant F1 of boundary benchmarks (Martin et al. 2004, with a disk
instead of an assignment: ours).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import (
    LAST_RANK,
    Better,
    Families,
    References,
    Role,
    Score,
    ScoredImage,
    ceiling_by,
    expect,
)
from metrics.condition.detectors import CANNY, MASK, Detector
from metrics.pocket_scorer import POCKET_FAMILIES

_NO_CONDITION = Score(None, "the trial has no condition image")
Measure = Literal["f1", "iou", "precision", "recall"]
_NOTHING_WANTED = "the condition image is empty"
_NOTHING_FOUND = "the detector finds nothing in the image"


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of a comparison; with a tolerance, `hit_found` and `hit_wanted` may differ."""

    found: int
    wanted: int
    hit_found: int
    hit_wanted: int

    def score(self, measure: Measure) -> Score:
        """Return a value in 0..1, or None where the measure is not defined."""
        if not self.wanted:
            return Score(None, _NOTHING_WANTED)
        if measure == "recall":
            return Score(self.hit_wanted / self.wanted)
        if measure == "precision":
            return Score(self.hit_found / self.found) if self.found else Score(None, _NOTHING_FOUND)
        if measure == "iou":
            return Score(self.hit_wanted / (self.found + self.wanted - self.hit_wanted))
        return Score(self._f1())

    def _f1(self) -> float:
        if not self.hit_found or not self.hit_wanted:
            return 0.0
        precision, recall = self.hit_found / self.found, self.hit_wanted / self.wanted
        return 2 * precision * recall / (precision + recall)


def overlap(found: np.ndarray, wanted: np.ndarray, *, tolerance_px: int = 0) -> Overlap:
    """Compare two condition images (uint8, H x W x 3 or H x W, set where > 127)."""
    if found.shape[:2] != wanted.shape[:2]:
        raise ValueError(f"sizes differ: found {found.shape[:2]}, wanted {wanted.shape[:2]}")
    a, b = _is_set(found), _is_set(wanted)
    near_a, near_b = _grown(a, tolerance_px), _grown(b, tolerance_px)
    return Overlap(int(a.sum()), int(b.sum()), int((a & near_b).sum()), int((b & near_a).sum()))


@dataclass(frozen=True)
class ConditionMetric:
    """How well the condition is found again in the image (0..1)."""

    name: str
    detector: Detector
    measure: Measure
    tolerance_px: int = 0
    role: Role | None = None
    rank: int = LAST_RANK
    condition: str | None = None
    family: Families = None
    beside: tuple[str, ...] = ()
    usual_width_px: int = 512  # of the condition, for the summary alone
    better: Better = "higher"
    level: Literal["image"] = "image"
    needs: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        what = {"f1": "F1", "iou": "intersection over union"}.get(self.measure, self.measure)
        return f"{what} of the {self.detector.name} condition{self._within()}"

    def recipe(self) -> str:
        """Return measure, tolerance, detector and size."""
        within = f"within {self.tolerance_px} px" if self.tolerance_px else "exact pixels"
        return f"{self.measure}, {within}; {self.detector.full_recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether a plugin, alone or in a stack, has a condition of this detector."""
        return image.detector == self.detector.name or self.detector.name in image.conditions

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one score for each image."""
        pairs = self.detector.detect_in(images, references)
        return [_NO_CONDITION if pair is None else self._of_maps(*pair) for pair in pairs]

    def ceiling(self, image: ScoredImage) -> Score:
        """Return the score of the source picture itself, that of a perfect image."""
        return ceiling_by(self._score, image, detector=self.detector.name)

    def selftest(self) -> None:
        """Check that a picture agrees fully with its own condition, and less if shifted."""
        import cv2

        picture = np.full((64, 64, 3), 245, np.uint8)
        cv2.rectangle(picture, (15, 20), (40, 45), (214, 40, 40), -1)
        condition = self.detector.detect(picture, size_px=(64, 64))
        same = self._compare(picture, condition).value
        shifted = self._compare(np.roll(picture, 6, axis=1), condition).value
        expect(same == 1.0, f"{self.name} of a picture with itself is {same}, not 1")
        expect((shifted or 0.0) < 1.0, f"{self.name} is blind to a shift of 6 px")

    def _within(self) -> str:
        """Return the tolerance in pixels and in per cent of the usual width."""
        if not self.tolerance_px:
            return ""
        share = f"{self.tolerance_px / self.usual_width_px:.1%}"
        return f" within {self.tolerance_px} px ({share} of {self.usual_width_px} px)"

    def _score(self, image: ScoredImage) -> Score:
        load = image.condition_of(self.detector.name)
        if load is None:
            return _NO_CONDITION
        return self._compare(image.load_picture(), load(), family=image.family)

    def _compare(self, picture: np.ndarray, condition: np.ndarray, *, family: str = "") -> Score:
        height, width = condition.shape[:2]
        found = self.detector.detect(picture, size_px=(width, height), family=family)
        return self._of_maps(found, condition)

    def _of_maps(self, found: np.ndarray, condition: np.ndarray) -> Score:
        return overlap(found, condition, tolerance_px=self.tolerance_px).score(self.measure)


def _is_set(condition: np.ndarray) -> np.ndarray:
    plane = condition.max(axis=-1) if condition.ndim == 3 else condition
    return plane > 127


def _grown(pixels: np.ndarray, radius_px: int) -> np.ndarray:
    """Return everything within `radius_px` (Euclidean) of a set pixel."""
    import cv2

    if not radius_px:
        return pixels
    yy, xx = np.mgrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1]
    disk = (xx**2 + yy**2 <= radius_px**2).astype(np.uint8)
    return cv2.dilate(pixels.astype(np.uint8), disk).astype(bool)


# at pocket's 64 and 128 px; at 1024 px one pixel is finer than a hand-over can keep
EDGE_F1_1PX = ConditionMetric(
    "edge-f1-1px",
    CANNY,
    "f1",
    1,
    "function",
    10,
    family=POCKET_FAMILIES,
    beside=("edge-f1",),
    usual_width_px=64,
)
EDGE_F1 = ConditionMetric("edge-f1", CANNY, "f1", 0, "function", 20, "canny")
EDGE_IOU = ConditionMetric("edge-iou", CANNY, "iou", 0, "function", 30, "canny")
EDGE_F1_2PX = ConditionMetric("edge-f1-2px", CANNY, "f1", 2, "function", 35, "canny")
EDGE_PRECISION = ConditionMetric("edge-precision", CANNY, "precision")
EDGE_RECALL = ConditionMetric("edge-recall", CANNY, "recall")
MASK_IOU = ConditionMetric("mask-iou", MASK, "iou", 0, "function", 40, "mask")
