"""Detectors that make conditions, and find them again in generated images.

Every picture, of whatever method, is first shrunk with antialiasing to the size of the condition
image: edges at 1024 px are thinner than at 512 px. A detector that needs weights is to be imported
inside its own function, one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from metrics import resize
from pocket import conditions

DetectorName = Literal["canny", "mask"]
PHOTO_CANNY_THRESHOLDS = (100, 200)


@dataclass(frozen=True)
class Detector:
    """A function from uint8 RGB to a condition image (uint8 RGB), and its words in a recipe."""

    recipe: str
    find: Callable[[np.ndarray], np.ndarray]


def photo_canny(image: np.ndarray) -> np.ndarray:
    """Canny edges of a picture's gray values, uint8 RGB [H, W, 3] of 0 and 255.

    Thresholds are the default of the annotator of the ControlNet authors.
    """
    gray = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return np.repeat(cv2.Canny(gray, *PHOTO_CANNY_THRESHOLDS)[..., None], 3, -1)


DETECTORS: dict[str, Detector] = {
    "canny": Detector("cv2 canny on gray, {}/{}".format(*PHOTO_CANNY_THRESHOLDS), photo_canny),
    "mask": Detector("HSV saturation > .5, holes filled", conditions.mask),
}
POCKET_DETECTORS: dict[str, Detector] = {
    "canny": Detector(
        "cv2 canny on RGB, {}/{}".format(*conditions.CANNY_THRESHOLDS), conditions.canny
    ),
}


def find_detector(name: str, *, family: str) -> Detector:
    """A detector; the pocket family's are those that its plugins were trained with.

    Raises ValueError that lists the detectors there are.
    """
    if name not in DETECTORS:
        raise ValueError(f"there is no detector {name!r}: use one of {', '.join(DETECTORS)}")
    return (family == "pocket" and POCKET_DETECTORS.get(name)) or DETECTORS[name]


def detect(
    name: str, image: np.ndarray, *, size_px: tuple[int, int], family: str = ""
) -> np.ndarray:
    """Condition image (uint8 RGB) of a picture (uint8 RGB) at a stated (width, height)."""
    return find_detector(name, family=family).find(resize.to_size(image, size_px))


def recipe(name: str) -> str:
    """The words of a recipe that name a detector and the size at which it runs."""
    pocket = POCKET_DETECTORS.get(name)
    other = f" (family pocket: {pocket.recipe})" if pocket else ""
    return f"{DETECTORS[name].recipe}{other}, at the condition's size ({resize.NAME}, rounded)"
