"""Detectors that find a condition again in a generated image.

Every picture, of whatever method, is first shrunk with antialiasing to the size of the condition
image: edges at 1024 px are thinner than at 512 px. The detectors are those that made the
conditions; ones that need weights are to be imported inside their own function, one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics import resize
from pocket import conditions

DetectorName = Literal["canny", "mask"]


@dataclass(frozen=True)
class Detector:
    """A function from uint8 RGB to a condition image (uint8 RGB) and the words for its recipe."""

    name: DetectorName
    recipe: str
    find: Callable[[np.ndarray], np.ndarray]


_LOW, _HIGH = conditions.CANNY_THRESHOLDS
DETECTORS: dict[str, Detector] = {
    "canny": Detector("canny", f"cv2 canny {_LOW}/{_HIGH} on RGB", conditions.canny),
    "mask": Detector("mask", "HSV saturation > .5, holes filled", conditions.mask),
}


def detector(name: str) -> Detector:
    """Look a detector up; raises ValueError that lists those there are."""
    if name not in DETECTORS:
        raise ValueError(f"there is no detector {name!r}: use one of {', '.join(DETECTORS)}")
    return DETECTORS[name]


def detect(name: str, image: np.ndarray, *, size_px: tuple[int, int]) -> np.ndarray:
    """Condition image (uint8 RGB) of a picture (uint8 RGB) at a stated (width, height)."""
    return detector(name).find(resize.to_size(image, size_px))


def recipe(name: str) -> str:
    """The words of a recipe that name a detector and the size at which it runs."""
    return f"{detector(name).recipe} at the condition's size ({resize.NAME}, rounded)"
