"""Condition reconstruction where the condition is a map of values: soft edges, lines, depth.

The detector runs on the image, and what it finds is compared with the condition image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import (
    LAST_RANK,
    Better,
    References,
    Role,
    Score,
    ScoredImage,
    ceiling_by,
    expect,
)
from metrics.condition import ssim as structure
from metrics.condition.detectors import DEPTH, HED, LINEART, SOFTEDGE, Detector

_NO_CONDITION = Score(None, "the trial has no condition image")
Compare = Callable[[np.ndarray, np.ndarray], Score]  # found, wanted: gray float64 [H, W] in 0..255


def of_ssim(found: np.ndarray, wanted: np.ndarray) -> Score:
    """Return SSIM."""
    if min(wanted.shape) < structure.WINDOW_PX:
        return Score(None, f"SSIM needs {structure.WINDOW_PX} px")
    return Score(structure.ssim(found, wanted))


def of_ms_ssim(found: np.ndarray, wanted: np.ndarray) -> Score:
    """Return MS-SSIM."""
    if min(wanted.shape) < structure.MS_SSIM_MIN_PX:
        return Score(None, f"MS-SSIM needs {structure.MS_SSIM_MIN_PX} px")
    return Score(structure.ms_ssim(found, wanted))


def of_rmse(found: np.ndarray, wanted: np.ndarray) -> Score:
    """Return the root mean square error, as in ControlNet++ (arXiv 2404.07987, section 4)."""
    return Score(float(np.sqrt(((found - wanted) ** 2).mean())))


def of_aligned_error(found: np.ndarray, wanted: np.ndarray) -> Score:
    """Return the root mean square error after the best scale and shift of what was found.

    Ranftl et al. 2020, arXiv 1907.01341, eq. 4: depth from one picture has neither; here a
    negative scale, which would turn near into far, is taken as 0 (ours).
    """
    centered = found - found.mean()
    spread = float((centered**2).mean())
    scale = max(0.0, float((centered * wanted).mean()) / spread) if spread else 0.0
    return of_rmse(scale * centered + wanted.mean(), wanted)


def of_ranks(found: np.ndarray, wanted: np.ndarray) -> Score:
    """Return Spearman's rank correlation over pixels."""
    from scipy.stats import rankdata

    if np.ptp(wanted) == 0:
        return Score(None, "the condition image is flat: its pixels have no order")
    if np.ptp(found) == 0:
        return Score(0.0, "the detector finds a flat map")
    ranks = (rankdata(plane.ravel()) for plane in (found, wanted))  # ties share their mean rank
    return Score(float(np.corrcoef(*ranks)[0, 1]))


@dataclass(frozen=True)
class MapMetric:
    """How well a map of values is found again in the image made under it."""

    name: str
    detector: Detector
    compare: Compare
    words: str
    role: Role | None = None
    rank: int = LAST_RANK
    better: Better = "higher"
    level: Literal["image"] = "image"

    @property
    def condition(self) -> str:
        """Return the name of the condition that the metric measures."""
        return self.detector.name

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        return f"{self.words} to the {self.detector.name} condition"

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the detector's weights."""
        return self.detector.network.needs if self.detector.network else ()

    def recipe(self) -> str:
        """Return measure and detector."""
        return f"{self.words} of gray values in 0..255; {self.detector.full_recipe()}"

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
        """Check that a picture agrees better with its own map than with another picture's."""
        yy, xx = np.mgrid[:192, :192]
        ramp = np.repeat((xx[..., None] * 255 // 191).astype(np.uint8), 3, axis=-1)
        disk = np.where(((yy - 90) ** 2 + (xx - 70) ** 2 < 2500)[..., None], 255 - ramp, ramp)
        own = self.detector.detect(disk, size_px=(192, 192))
        same, other = (self._compare(p, own, family="").value for p in (disk, ramp))
        if same is not None and other is not None:
            nearer = same >= other if self.better == "higher" else same <= other
            expect(nearer, f"{self.name}: {same:.3g} to itself, {other:.3g} to another picture")

    def _score(self, image: ScoredImage) -> Score:
        load = image.condition_of(self.detector.name)
        if load is None:
            return _NO_CONDITION
        return self._compare(image.load_picture(), load(), family=image.family)

    def _compare(self, picture: np.ndarray, condition: np.ndarray, *, family: str) -> Score:
        height, width = condition.shape[:2]
        found = self.detector.detect(picture, size_px=(width, height), family=family)
        return self._of_maps(found, condition)

    def _of_maps(self, found: np.ndarray, condition: np.ndarray) -> Score:
        return self.compare(_gray(found), _gray(condition))


def _gray(image: np.ndarray) -> np.ndarray:
    """Convert to float before any arithmetic: 1 - x of uint8 would wrap around."""
    return image.astype(np.float64).mean(axis=-1)


HED_MS_SSIM = MapMetric("hed-ms-ssim", HED, of_ms_ssim, "MS-SSIM", "function", 70)
HED_SSIM = MapMetric("hed-ssim", HED, of_ssim, "SSIM", "function", 80)
SOFTEDGE_MS_SSIM = MapMetric("softedge-ms-ssim", SOFTEDGE, of_ms_ssim, "MS-SSIM", "function", 90)
SOFTEDGE_SSIM = MapMetric("softedge-ssim", SOFTEDGE, of_ssim, "SSIM", "function", 100)
LINEART_MS_SSIM = MapMetric("lineart-ms-ssim", LINEART, of_ms_ssim, "MS-SSIM", "function", 110)
LINEART_SSIM = MapMetric("lineart-ssim", LINEART, of_ssim, "SSIM", "function", 120)
_ALIGNED = "error after the best scale >= 0 and shift, root mean square,"
DEPTH_ALIGNED_RMSE = MapMetric(
    "depth-aligned-rmse", DEPTH, of_aligned_error, _ALIGNED, "function", 50, better="lower"
)
DEPTH_RMSE = MapMetric(
    "depth-rmse", DEPTH, of_rmse, "root mean square error", "function", 60, better="lower"
)
DEPTH_SPEARMAN = MapMetric("depth-spearman", DEPTH, of_ranks, "Spearman rank correlation")
