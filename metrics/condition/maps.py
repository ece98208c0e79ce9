"""Condition reconstruction where the condition is a map of values: soft edges, lines, depth.

The detector looks at the image again, and what it finds is compared with the condition image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import Better, References, Score, ScoredImage, ceiling_by, expect
from metrics.condition import detectors
from metrics.condition import ssim as structure
from plugins_manifest.schema.words import DetectorName

Compare = Callable[[np.ndarray, np.ndarray], Score]  # found, wanted: gray float64 [H, W] in 0..255


def of_ssim(found: np.ndarray, wanted: np.ndarray) -> Score:
    """SSIM."""
    if min(wanted.shape) < structure.WINDOW_PX:
        return Score(None, f"SSIM needs {structure.WINDOW_PX} px")
    return Score(structure.ssim(found, wanted))


def of_ms_ssim(found: np.ndarray, wanted: np.ndarray) -> Score:
    """MS-SSIM."""
    if min(wanted.shape) < structure.MS_SSIM_MIN_PX:
        return Score(None, f"MS-SSIM needs {structure.MS_SSIM_MIN_PX} px")
    return Score(structure.ms_ssim(found, wanted))


def of_rmse(found: np.ndarray, wanted: np.ndarray) -> Score:
    """Root mean square error, as in ControlNet++ (arXiv 2404.07987, section 4)."""
    return Score(float(np.sqrt(((found - wanted) ** 2).mean())))


def of_aligned_error(found: np.ndarray, wanted: np.ndarray) -> Score:
    """Root mean square error after the best scale and shift of what was found.

    Ranftl et al. 2020, arXiv 1907.01341, eq. 4: depth from one picture has neither; here a
    negative scale, which would turn near into far, is taken as 0 (ours).
    """
    centered = found - found.mean()
    spread = float((centered**2).mean())
    scale = max(0.0, float((centered * wanted).mean()) / spread) if spread else 0.0
    return of_rmse(scale * centered + wanted.mean(), wanted)


def of_ranks(found: np.ndarray, wanted: np.ndarray) -> Score:
    """Spearman's rank correlation over pixels."""
    from scipy.stats import rankdata

    if np.ptp(wanted) == 0:
        return Score(None, "the condition image is flat: there is no order to keep")
    if np.ptp(found) == 0:
        return Score(0.0, "the detector finds a flat map")
    ranks = (rankdata(plane.ravel()) for plane in (found, wanted))  # ties share their mean rank
    return Score(float(np.corrcoef(*ranks)[0, 1]))


@dataclass(frozen=True)
class MapMetric:
    """How well a map of values is found again in the image made under it."""

    name: str
    detector: DetectorName
    compare: Compare
    words: str
    better: Better = "higher"
    level: Literal["image"] = "image"

    @property
    def summary(self) -> str:
        """One line for `xbench metrics list`."""
        return f"{self.words} to the {self.detector} condition"

    @property
    def needs(self) -> tuple[str, ...]:
        """The detector's weights."""
        network = detectors.DETECTORS[self.detector].network
        return (network.weights.name,) if network else ()

    def recipe(self) -> str:
        """Measure and detector."""
        return f"{self.words} of gray values in 0..255; {detectors.recipe(self.detector)}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Only plugins whose conditions this detector makes, alone or in a stack."""
        return image.detector == self.detector or self.detector in image.conditions

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """One score for each image."""
        return [self._score(image) for image in images]

    def ceiling(self, image: ScoredImage) -> Score:
        """The score of the source picture itself: what a perfect image would get."""
        return ceiling_by(self._score, image, detector=self.detector)

    def selftest(self) -> None:
        """The detector loads, and a picture agrees better with its own map than with another's."""
        yy, xx = np.mgrid[:192, :192]
        ramp = np.repeat((xx[..., None] * 255 // 191).astype(np.uint8), 3, axis=-1)
        disk = np.where(((yy - 90) ** 2 + (xx - 70) ** 2 < 2500)[..., None], 255 - ramp, ramp)
        own = detectors.detect(self.detector, disk, size_px=(192, 192))
        same, other = (self._compare(p, own, family="").value for p in (disk, ramp))
        if same is not None and other is not None:
            nearer = same >= other if self.better == "higher" else same <= other
            expect(nearer, f"{self.name}: {same:.3g} to itself, {other:.3g} to another picture")

    def _score(self, image: ScoredImage) -> Score:
        load = image.condition_of(self.detector)
        if load is None:
            return Score(None, "the trial has no condition image")
        return self._compare(image.load_picture(), load(), family=image.family)

    def _compare(self, picture: np.ndarray, condition: np.ndarray, *, family: str) -> Score:
        height, width = condition.shape[:2]
        found = detectors.detect(self.detector, picture, size_px=(width, height), family=family)
        return self.compare(_gray(found), _gray(condition))


def hed_ssim() -> MapMetric:
    """SSIM of HED edges."""
    return MapMetric("hed-ssim", "hed", of_ssim, "SSIM")


def hed_ms_ssim() -> MapMetric:
    """MS-SSIM of HED edges."""
    return MapMetric("hed-ms-ssim", "hed", of_ms_ssim, "MS-SSIM")


def softedge_ssim() -> MapMetric:
    """SSIM of PiDiNet edges."""
    return MapMetric("softedge-ssim", "softedge", of_ssim, "SSIM")


def softedge_ms_ssim() -> MapMetric:
    """MS-SSIM of PiDiNet edges."""
    return MapMetric("softedge-ms-ssim", "softedge", of_ms_ssim, "MS-SSIM")


def lineart_ssim() -> MapMetric:
    """SSIM of line drawings."""
    return MapMetric("lineart-ssim", "lineart", of_ssim, "SSIM")


def lineart_ms_ssim() -> MapMetric:
    """MS-SSIM of line drawings."""
    return MapMetric("lineart-ms-ssim", "lineart", of_ms_ssim, "MS-SSIM")


def depth_rmse() -> MapMetric:
    """Error of depth in steps of 255."""
    return MapMetric("depth-rmse", "depth", of_rmse, "root mean square error", better="lower")


def depth_aligned_rmse() -> MapMetric:
    """Error of depth after the best scale and shift."""
    words = "error after the best scale >= 0 and shift, root mean square,"
    return MapMetric("depth-aligned-rmse", "depth", of_aligned_error, words, better="lower")


def depth_spearman() -> MapMetric:
    """Rank correlation of depth."""
    return MapMetric("depth-spearman", "depth", of_ranks, "Spearman rank correlation")


def _gray(image: np.ndarray) -> np.ndarray:
    """Float, before any arithmetic: 1 - x of uint8 would wrap around."""
    return image.astype(np.float64).mean(axis=-1)
