"""Detectors of controlnet_aux, each imported alone: its package imports all of them at once.

The submodules are loaded under a package name of ours with the same folder, so that one that no
longer imports (mediapipe, old timm) takes no other with it. `variant` names the detector.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from metrics.base import MetricUnavailableError
from metrics.networks.files import fill, read_tensors
from metrics.weights import Weights

_ALIAS = "_controlnet_aux_one_by_one"


class Annotator:
    """Pictures to condition images by a detector of controlnet_aux."""

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    def find(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return condition images, uint8 [H, W, 3]; networks work at multiples of 64 px.

        The library takes pictures one by one.
        """
        return [self._find(picture) for picture in pictures]

    def _find(self, picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        short_px = min(height, width)
        found = self.detector(
            picture, detect_resolution=short_px, image_resolution=short_px, output_type="np"
        )
        if found.shape[:2] == (height, width):
            return found
        return cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA)


class PoseAnnotator(Annotator):
    """OpenPose: condition images, and the joints behind them."""

    def people(self, picture: np.ndarray) -> np.ndarray:
        """Return joints in OpenPose's order, float [P, 18, 2] as x, y in px; NaN where unseen."""
        height, width = picture.shape[:2]
        found = [
            [(joint.x * width, joint.y * height) if joint else (np.nan,) * 2 for joint in joints]
            for joints in (pose.body.keypoints for pose in self.detector.detect_poses(picture))
        ]
        return np.array(found, dtype=float).reshape(-1, 18, 2)


def load(weights: Weights, variant: str) -> Annotator:
    """Load the detector `variant`: hed, pidi, lineart or open_pose."""
    tensors = read_tensors(weights.path())
    module = submodule(variant)
    if variant == "open_pose":
        return PoseAnnotator(_open_pose(tensors, weights))
    network = build(variant)
    fill(network, tensors, what=weights.title)
    if variant == "hed":
        return Annotator(module.HEDdetector(network))
    if variant == "pidi":
        return Annotator(module.PidiNetDetector(network))
    return Annotator(module.LineartDetector(network, network))


def build(variant: str) -> Any:
    """Build a detector's network without weights."""
    if variant == "hed":
        return submodule("hed").ControlNetHED_Apache2()
    if variant == "pidi":
        return submodule("pidi.model").pidinet()
    if variant == "lineart":
        return submodule("lineart").Generator(3, 1, 3)
    return submodule("open_pose.model").bodypose_model()


def palette() -> np.ndarray:
    """Return colors of ADE20K's classes in segmentation conditions, uint8 [150, 3]."""
    return np.array(submodule("util").ade_palette(), np.uint8)


@cache
def submodule(name: str) -> ModuleType:
    """Import one submodule of controlnet_aux; raise MetricUnavailableError if that fails."""
    _register_alias()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it imports scipy in the old way
            return importlib.import_module(f"{_ALIAS}.{name}")
    except ImportError as error:
        raise MetricUnavailableError(
            f"controlnet_aux's {name} cannot be imported ({error}): install what it lacks"
        ) from error


def _register_alias() -> None:
    """Register a package with controlnet_aux's folder, without its code that imports all."""
    if _ALIAS in sys.modules:
        return
    spec = importlib.util.find_spec("controlnet_aux")
    if spec is None or spec.submodule_search_locations is None:
        raise MetricUnavailableError("controlnet_aux is not installed: install it")
    package = ModuleType(_ALIAS)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[_ALIAS] = package


def _open_pose(tensors: dict[str, Any], weights: Weights) -> Any:
    module, body_module = submodule("open_pose"), submodule("open_pose.body")
    network = build("open_pose")
    short = {key.partition(".")[2]: key for key in network.state_dict()}
    named = {short.get(key, key): value for key, value in tensors.items()}
    body = object.__new__(body_module.Body)  # its constructor reads a file without weights_only
    body.model = fill(network, named, what=weights.title)
    return module.OpenposeDetector(body)
