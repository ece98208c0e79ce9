"""Detectors that make conditions, and find them again in generated images.

Every picture, of whatever method, is first shrunk with antialiasing to the size of the condition
image: edges at 1024 px are thinner than at 512 px. A detector that needs weights loads when it is
first asked, alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from metrics import resize
from metrics.encoders import Network
from metrics.weights import catalog
from plugins_manifest.installed import installed, load_entry
from pocket import conditions

PHOTO_CANNY_THRESHOLDS = (100, 200)


@dataclass(frozen=True)
class Detector:
    """A function from uint8 RGB to a condition image (uint8 RGB), and its words in a recipe."""

    words: str
    find: Callable[[np.ndarray], np.ndarray]
    network: Network | None = None

    def recipe(self) -> str:
        """Words, with the weights' sha256; MetricUnavailableError where they are missing."""
        return f"{self.words}; {self.network.recipe()}" if self.network else self.words


def photo_canny(image: np.ndarray) -> np.ndarray:
    """Canny edges of a picture's gray values, uint8 RGB [H, W, 3] of 0 and 255.

    Thresholds are the default of the annotator of the ControlNet authors.
    """
    gray = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return np.repeat(cv2.Canny(gray, *PHOTO_CANNY_THRESHOLDS)[..., None], 3, -1)


def by_network(words: str, network: Network) -> Detector:
    """A detector that a published network is."""
    return Detector(words, lambda image: network.loaded().find(image), network)


# Xie and Tu 2015, arXiv 1504.06375; Su et al. 2021, arXiv 2108.07009
HED = Network("annotators", catalog.HED, "as in controlnet_aux", "hed")
PIDINET = Network("annotators", catalog.PIDINET, "as in controlnet_aux", "pidi")
# Chan et al. 2022, arXiv 2203.12691
LINEART = Network("annotators", catalog.LINEART, "as in controlnet_aux, white on black", "lineart")
DEPTH = Network("dpt", catalog.DPT_LARGE, "bilinear to size, nearest 255 to farthest 0")
SEGMENTS = Network("upernet", catalog.UPERNET, "colors of ADE20K's 150 classes")
# Cao et al. 2018, arXiv 1812.08008
POSE = Network("annotators", catalog.OPENPOSE, "as in controlnet_aux, body only", "open_pose")

DETECTORS: dict[str, Detector] = {
    "canny": Detector("cv2 canny on gray, {}/{}".format(*PHOTO_CANNY_THRESHOLDS), photo_canny),
    "mask": Detector("HSV saturation > .5, holes filled", conditions.mask),
    "hed": by_network("HED edges", HED),
    "softedge": by_network("PiDiNet edges", PIDINET),
    "lineart": by_network("line drawing", LINEART),
    "depth": by_network("DPT depth", DEPTH),
    "seg": by_network("UPerNet segments", SEGMENTS),
    "openpose": by_network("OpenPose joints", POSE),
    "tile": Detector("the picture itself", lambda image: image),
}
# Condition -> the metrics that ask whether it is found again
CONDITION_METRICS: dict[str, tuple[str, ...]] = {
    "canny": ("edge-f1", "edge-f1-2px", "edge-iou"),
    "mask": ("mask-iou",),
    "hed": ("hed-ssim", "hed-ms-ssim"),
    "softedge": ("softedge-ssim", "softedge-ms-ssim"),
    "lineart": ("lineart-ssim", "lineart-ms-ssim"),
    "depth": ("depth-rmse", "depth-aligned-rmse", "depth-spearman"),
    "seg": ("seg-iou", "seg-miou"),
    "openpose": ("pose-oks", "pose-pck"),
    "tile": ("tile-psnr", "tile-lpips"),
}


@cache
def _of_family(family: str) -> Mapping[str, Detector]:
    """Return the detectors that an installed family declares, by condition."""
    if family not in installed("families"):
        return {}
    declared = getattr(load_entry("families", family), "detectors", dict)()
    return {name: Detector(own.words, own.find) for name, own in declared.items()}


def find_detector(name: str, *, family: str) -> Detector:
    """Return a detector: the family's own, with which its plugins were trained, if it has one.

    Raises ValueError that lists the known detectors.
    """
    if name not in DETECTORS:
        raise ValueError(f"there is no detector {name!r}: use one of {', '.join(DETECTORS)}")
    return _of_family(family).get(name) or DETECTORS[name]


def detect(
    name: str, image: np.ndarray, *, size_px: tuple[int, int], family: str = ""
) -> np.ndarray:
    """Condition image (uint8 RGB) of a picture (uint8 RGB) at a stated (width, height)."""
    return find_detector(name, family=family).find(resize.to_size(image, size_px))


def recipe(name: str) -> str:
    """The words of a recipe that name a detector and the size at which it runs.

    Raises MetricUnavailableError where its weights are missing.
    """
    own = {family: _of_family(family).get(name) for family in sorted(installed("families"))}
    other = "".join(f" (family {f}: {d.recipe()})" for f, d in own.items() if d is not None)
    return f"{DETECTORS[name].recipe()}{other}, at the condition's size ({resize.NAME}, rounded)"
