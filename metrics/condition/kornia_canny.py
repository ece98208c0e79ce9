"""Canny edges equal to kornia's, without kornia: the detector of ControlNet++'s canny score.

Canny 1986 with a 5 x 5 Gaussian (sigma 1), Sobel gradients of values in 0..1, thresholds .1/.2 and
hysteresis. Source: kornia.filters.canny 0.9 and Li et al. 2024, arXiv 2404.07987, section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics import resize
from metrics.base import Better, References, Score, ScoredImage, ceiling_by, expect
from metrics.condition.overlap import overlap

LOW, HIGH = 0.1, 0.2
NAME = f"kornia canny {LOW}/{HIGH}, 5x5 gaussian sigma 1, hysteresis"
_GRAY = (0.299, 0.587, 0.114)
_EPSILON = 1e-6
# (dy, dx) in steps of 45 degrees from +x towards +y
_STEPS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
_TIES = (0, 2)  # to the right and below an equal magnitude does not win


def kornia_canny(image: np.ndarray) -> np.ndarray:
    """Return edges of a uint8 RGB picture [H, W, 3], uint8 RGB of 0 and 255."""
    import cv2

    gray = image.astype(np.float64) / 255 @ np.array(_GRAY)
    smooth = cv2.GaussianBlur(gray, (5, 5), 1.0, borderType=cv2.BORDER_REFLECT_101)
    gx, gy = (
        cv2.Sobel(smooth, cv2.CV_64F, dx, 1 - dx, ksize=3, borderType=cv2.BORDER_REPLICATE)
        for dx in (1, 0)
    )
    magnitude = np.sqrt(gx**2 + gy**2 + _EPSILON)
    ridge = magnitude * _is_ridge(magnitude, np.rint(np.arctan2(gy, gx) * 4 / np.pi).astype(int))
    _, labels = cv2.connectedComponents((ridge > LOW).astype(np.uint8), connectivity=8)
    kept = np.isin(labels, np.unique(labels[ridge > HIGH])) & (ridge > LOW)
    return np.repeat((kept * np.uint8(255))[..., None], 3, axis=-1)


@dataclass(frozen=True)
class KorniaEdgeF1:
    """F1 of canny edges to the source picture's, exact pixels, as in ControlNet++."""

    name: str = "edge-f1-kornia"
    better: Better = "higher"
    level: Literal["image"] = "image"
    needs: tuple[str, ...] = ()

    def recipe(self) -> str:
        """Return detector, size and what is compared."""
        return (
            f"f1, exact pixels, of the image to the source picture; {NAME}, kornia 0.9's ties, "
            f"float64, both at the source's size on the base side ({resize.NAME}, rounded)"
        )

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether a plugin, alone or in a stack, has canny conditions."""
        return image.condition_of("canny") is not None

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one score for each image, 0..1."""
        return [self._score(image) for image in images]

    def ceiling(self, image: ScoredImage) -> Score:
        """Return the score of the source picture itself, that of a perfect image."""
        return ceiling_by(self._score, image, detector="canny")

    def selftest(self) -> None:
        """Check that a picture agrees fully with itself, and not with a blank one."""
        import cv2

        picture = np.full((64, 64, 3), 245, np.uint8)
        cv2.rectangle(picture, (15, 20), (40, 45), (40, 40, 40), -1)
        blank = np.zeros_like(picture)
        found = [_agreement(p, picture).value for p in (picture, blank)]
        expect(found == [1.0, 0.0], f"{self.name}: {found} instead of 1, 0")

    def _score(self, image: ScoredImage) -> Score:
        if image.load_source is None:
            return Score(None, "the case has no source picture to find edges in")
        source = image.load_source()
        height, width = source.shape[:2]
        return _agreement(resize.to_size(image.load_picture(), (width, height)), source)


def _agreement(picture: np.ndarray, source: np.ndarray) -> Score:
    return overlap(kornia_canny(picture), kornia_canny(source)).score("f1")


def _is_ridge(magnitude: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return where a magnitude beats both neighbors along its gradient (none beyond the border)."""
    padded = np.pad(magnitude, 1, constant_values=_EPSILON**0.5)
    height, width = magnitude.shape
    beats = np.empty((8, height, width), bool)
    for k, (dy, dx) in enumerate(_STEPS):
        other = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        beats[k] = magnitude >= other if k in _TIES else magnitude > other
    rows, columns = np.indices(magnitude.shape)
    ahead, behind = direction % 8, (direction + 4) % 8
    return beats[ahead, rows, columns] & beats[behind, rows, columns]


EDGE_F1_KORNIA = KorniaEdgeF1()
