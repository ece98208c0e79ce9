"""Segmentation kept: intersection over union of classes, per image and over a set.

Everingham et al. 2010 (PASCAL VOC), eq. 3, over the classes that either side shows: the measure of
the ControlNet paper (arXiv 2302.05543, table 3) for its segmentation ControlNet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import Better, References, Role, Score, ScoredImage, ceiling_by, expect
from metrics.condition.detectors import SEG
from metrics.device import GPU_BATCH
from metrics.weights.catalog import UPERNET

_CHUNK_PX = 1 << 16
_NO_CONDITION = Score(None, "the trial has no condition image")


@dataclass(frozen=True)
class Agreement:
    """Pixels of each class in both (`shared`) and in either (`union`), int [C]."""

    shared: np.ndarray
    union: np.ndarray

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.shared + other.shared, self.union + other.union)

    def __sub__(self, other: Agreement) -> Agreement:
        return Agreement(self.shared - other.shared, self.union - other.union)

    def mean_iou(self) -> float:
        """Return the mean over the classes that occur."""
        present = self.union > 0
        return float((self.shared[present] / self.union[present]).mean())


def agreement(found: np.ndarray, wanted: np.ndarray, *, n_classes: int) -> Agreement:
    """Compare two class images (int [H, W], below `n_classes`) of one size."""
    if found.shape != wanted.shape:
        raise ValueError(f"sizes differ: found {found.shape}, wanted {wanted.shape}")
    pairs = np.bincount(
        (found.astype(np.int64) * n_classes + wanted).ravel(), minlength=n_classes**2
    ).reshape(n_classes, n_classes)
    shared = np.diagonal(pairs).copy()
    return Agreement(shared, pairs.sum(axis=0) + pairs.sum(axis=1) - shared)


def classes_of(image: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Return the class of each pixel of a condition image: that of the palette's nearest color.

    Two classes of ADE20K share a color; both become the first one, on both sides.
    """
    colors, places = np.unique(image.reshape(-1, 3), axis=0, return_inverse=True)
    nearest = np.empty(len(colors), np.int64)
    for start in range(0, len(colors), _CHUNK_PX // len(palette)):
        part = slice(start, start + _CHUNK_PX // len(palette))
        apart = colors[part, None].astype(np.int64) - palette[None].astype(np.int64)
        nearest[part] = (apart**2).sum(axis=-1).argmin(axis=1)
    return nearest[places.reshape(-1)].reshape(image.shape[:2])


def _compare(found: np.ndarray, wanted: np.ndarray) -> Agreement:
    from metrics.networks.annotators import palette

    colors = palette()
    return agreement(classes_of(found, colors), classes_of(wanted, colors), n_classes=len(colors))


def _ceiling(source: ScoredImage) -> Score:
    load = source.condition_of("seg")
    if load is None:
        return _NO_CONDITION
    wanted = load()
    height, width = wanted.shape[:2]
    found = SEG.detect(source.load_picture(), size_px=(width, height))
    return Score(_compare(found, wanted).mean_iou())


def _recipe(what: str) -> str:
    return f"{what} over ADE20K's classes that either shows; {SEG.full_recipe()}"


def _applies_to(image: ScoredImage) -> bool:
    return image.condition_of("seg") is not None


def _selftest() -> None:
    """Check that the detector runs and that a picture's segments agree with themselves."""
    from metrics.networks.annotators import palette

    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    found = SEG.detect(picture, size_px=(128, 128))
    classes = classes_of(found, palette())
    same = agreement(classes, classes, n_classes=len(palette())).mean_iou()
    expect(same == 1.0, f"a picture's segments agree with themselves by {same}, not 1")


@dataclass(frozen=True)
class SegmentIou:
    """Intersection over union of the seg condition's classes, image by image."""

    name: str = "seg-iou"
    role: Role | None = "function"
    rank: int = 130
    condition: str = SEG.name
    better: Better = "higher"
    level: Literal["image"] = "image"
    needs: tuple[str, ...] = (UPERNET.name,)

    def recipe(self) -> str:
        """Return measure and detector."""
        return _recipe("mean IoU of an image")

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether a plugin, alone or in a stack, has segmentation conditions."""
        return _applies_to(image)

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one score for each image, 0..1."""
        pairs = SEG.detect_in(images, references)
        return [_NO_CONDITION if p is None else Score(_compare(*p).mean_iou()) for p in pairs]

    def ceiling(self, image: ScoredImage) -> Score:
        """Return the score of the source picture itself, that of a perfect image."""
        return ceiling_by(_ceiling, image, detector="seg")

    def selftest(self) -> None:
        """Check that segments agree with themselves."""
        _selftest()


@dataclass(frozen=True)
class SegmentMeanIou:
    """Intersection over union of the seg condition's classes, pixels of the set."""

    name: str = "seg-miou"
    condition: str = SEG.name
    better: Better = "higher"
    level: Literal["group"] = "group"
    needs: tuple[str, ...] = (UPERNET.name,)

    def recipe(self) -> str:
        """Return measure and detector."""
        return _recipe("mean IoU of a set")

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether a plugin, alone or in a stack, has segmentation conditions."""
        return _applies_to(image)

    def score(self, images: Sequence[ScoredImage], references: References) -> Score:
        """Return the set's score, 0..1, and the score without each prompt."""
        by_prompt: dict[str, Agreement] = {}
        held: dict[str, list[Agreement]] = defaultdict(list)
        for start in range(0, len(images), GPU_BATCH):  # not all maps in memory at once
            part = images[start : start + GPU_BATCH]
            for image, pair in zip(part, SEG.detect_in(part, references), strict=True):
                if pair is not None:
                    held[image.prompt].append(_compare(*pair))
        for prompt, parts in held.items():
            by_prompt[prompt] = sum(parts[1:], parts[0])
        if not by_prompt:
            return Score(None, "no image of the set has a condition image")
        parts = list(by_prompt.values())
        total = sum(parts[1:], parts[0])
        left_out = {p: (total - a).mean_iou() for p, a in by_prompt.items() if len(by_prompt) > 1}
        return Score(total.mean_iou(), leave_one_out=left_out)

    def selftest(self) -> None:
        """Check that segments agree with themselves."""
        _selftest()


SEG_IOU = SegmentIou()
SEG_MIOU = SegmentMeanIou()
