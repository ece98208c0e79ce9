"""Detectors that make condition images, and find them again in generated images.

Every picture, of whatever method, is first shrunk with antialiasing to the size of the condition
image: edges at 1024 px are thinner than at 512 px. A detector is an entry point of group
`xbench.detectors` under the name of its condition; its network loads when it is first used.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from metrics import resize
from metrics.base import References, ScoredImage
from metrics.device import batch_size, in_batches
from metrics.encoders import Network
from metrics.weights import catalog
from plugins_manifest.errors import UserError
from plugins_manifest.installed import extension_errors, installed, load_entry
from pocket import conditions

_LOG = logging.getLogger(__name__)
PHOTO_CANNY_THRESHOLDS = (100, 200)
FindAll = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class Detector:
    """A function from uint8 RGB to a condition image (uint8 RGB), and its words in a recipe.

    `find_all` takes pictures of one size in batches; None: they are taken one by one.

    `name` is that of the condition. A family whose plugins were trained with another detector
    declares that one (`detectors` of its traits).
    """

    name: str
    words: str
    find: Callable[[np.ndarray], np.ndarray]
    network: Network | None = None
    find_all: FindAll | None = None

    def for_family(self, family: str) -> Detector:
        """Return the detector that the plugins of a family were trained with."""
        return _of_family(family).get(self.name, self)

    def detect(
        self, picture: np.ndarray, *, size_px: tuple[int, int], family: str = ""
    ) -> np.ndarray:
        """Return the condition image (uint8 RGB) of a picture (uint8 RGB) at (width, height)."""
        return self.for_family(family).find(resize.to_size(picture, size_px))

    def detect_in(
        self, images: Sequence[ScoredImage], references: References
    ) -> list[tuple[np.ndarray, np.ndarray] | None]:
        """Return what it finds in each image, and the condition image; None without a condition.

        An image is detected once for all metrics of the condition that take turns on it.
        """
        loads = (image.condition_of(self.name) for image in images)
        wanted = {place: load() for place, load in enumerate(loads) if load is not None}
        alike: dict[tuple[str, tuple[int, int]], list[int]] = defaultdict(list)
        for place, condition in wanted.items():
            height, width = condition.shape[:2]
            alike[images[place].family, (width, height)].append(place)
        found: dict[int, np.ndarray] = {}
        for (family, size_px), places in alike.items():
            own = self.for_family(family)
            maps = references.features.maps_of(
                [images[place] for place in places],
                detector=f"{own.recipe()} {size_px}",
                detect=partial(own.find_at, size_px),
                at_once=batch_size(),
            )
            found.update(zip(places, maps, strict=True))
        return [
            (found[place], wanted[place]) if place in wanted else None
            for place in range(len(images))
        ]

    def find_at(self, size_px: tuple[int, int], pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the condition images of pictures at (width, height)."""
        resized = [resize.to_size(picture, size_px) for picture in pictures]
        if self.find_all is not None:
            return self.find_all(resized)
        return [self.find(picture) for picture in resized]

    def recipe(self) -> str:
        """Return words and weights' sha256; raise MetricUnavailableError without the weights."""
        return f"{self.words}; {self.network.recipe()}" if self.network else self.words

    def full_recipe(self) -> str:
        """Return the recipes for all families, and the size at which the detector runs.

        Of families with one recipe it names the first, so that another one changes no recipe.
        """
        own = {family: self.for_family(family) for family in sorted(installed("families"))}
        first: dict[str, str] = {}
        for family, detector in own.items():
            if detector is not self:
                first.setdefault(detector.recipe(), family)
        others = "".join(f" (family {family}: {text})" for text, family in first.items())
        return f"{self.recipe()}{others}, at the condition's size ({resize.NAME}, rounded)"


@cache
def _of_family(family: str) -> Mapping[str, Detector]:
    """Return the detectors that an installed family declares, by condition."""
    if family not in installed("families"):
        return {}
    try:
        source = load_entry("families", family, takes_part=False)
        with extension_errors(f"family {family!r}", "has broken traits"):
            declared = getattr(source, "detectors", dict)()
    except UserError as error:  # a run with this family is refused, another one goes on
        _LOG.warning("%s", error)
        return {}
    return {name: Detector(name, own.words, own.find) for name, own in declared.items()}


def photo_canny(image: np.ndarray) -> np.ndarray:
    """Return canny edges of a picture's gray values, uint8 RGB [H, W, 3] of 0 and 255.

    Thresholds are the default of the annotator of the ControlNet authors.
    """
    import cv2

    gray = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return np.repeat(cv2.Canny(gray, *PHOTO_CANNY_THRESHOLDS)[..., None], 3, -1)


def by_network(name: str, words: str, network: Network) -> Detector:
    """Return a detector that runs a published network."""

    def find_all(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        return in_batches(network.loaded().find, pictures)

    return Detector(name, words, lambda picture: find_all([picture])[0], network, find_all)


# Cao et al. 2018, arXiv 1812.08008
POSE = Network("annotators", catalog.OPENPOSE, "as in controlnet_aux, body only", "open_pose")

CANNY = Detector("canny", "cv2 canny on gray, {}/{}".format(*PHOTO_CANNY_THRESHOLDS), photo_canny)
MASK = Detector("mask", "HSV saturation > .5, holes filled", conditions.mask)
TILE = Detector("tile", "the picture itself", lambda picture: picture)
# Xie and Tu 2015, arXiv 1504.06375; Su et al. 2021, arXiv 2108.07009
HED = by_network(
    "hed", "HED edges", Network("annotators", catalog.HED, "as in controlnet_aux", "hed")
)
SOFTEDGE = by_network(
    "softedge",
    "PiDiNet edges",
    Network("annotators", catalog.PIDINET, "as in controlnet_aux", "pidi"),
)
# Chan et al. 2022, arXiv 2203.12691
LINEART = by_network(
    "lineart",
    "line drawing",
    Network("annotators", catalog.LINEART, "as in controlnet_aux, white on black", "lineart"),
)
DEPTH = by_network(
    "depth",
    "DPT depth",
    Network("dpt", catalog.DPT_LARGE, "bilinear to size, nearest 255 to farthest 0"),
)
SEG = by_network(
    "seg", "UPerNet segments", Network("upernet", catalog.UPERNET, "colors of ADE20K's 150 classes")
)
OPENPOSE = by_network("openpose", "OpenPose joints", POSE)
