"""Poses kept: object keypoint similarity, and the share of correct keypoints.

OKS: Ronchi and Perona 2017 (arXiv 1707.05388, eq. 1) with COCO's 17 constants. PCK: Yang and
Ramanan 2013, within .1 of the person's larger side. A person's size is the box around the joints
(ours: there is no mask). People are matched by the best total; a wanted one without a partner
counts 0. The wanted pose is detected in the source picture: a drawing of joints cannot be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics import resize
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
from metrics.condition.detectors import OPENPOSE, POSE

PCK_SHARE = 0.1
# OpenPose's 18 joints (nose, neck, right and left arm, right and left leg, eyes, ears) without the
# neck, in its order, with COCO's constants
_JOINTS = [0, *range(2, 18)]
_SIGMAS = np.array(
    [0.026, *(0.079, 0.072, 0.062) * 2, *(0.107, 0.087, 0.089) * 2, *(0.025,) * 2, *(0.035,) * 2]
)
_Similarity = Callable[[np.ndarray, np.ndarray], float]


def oks(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return OKS of one person's joints [18, 2] (NaN unseen) over the wanted joints seen."""
    a, b = found[_JOINTS], wanted[_JOINTS]
    seen = ~np.isnan(b[:, 0])
    area = float(np.prod(_box(b)))
    square = ((a - b) ** 2).sum(axis=1)
    near = np.exp(-square / (2 * area * (2 * _SIGMAS) ** 2))
    return float(np.nan_to_num(near[seen]).mean())


def pck(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the share of wanted joints [18, 2] that are found within .1 of the larger side."""
    a, b = found[_JOINTS], wanted[_JOINTS]
    seen = ~np.isnan(b[:, 0])
    distance = np.sqrt(((a - b) ** 2).sum(axis=1))
    return float((distance[seen] <= PCK_SHARE * _box(b).max()).mean())


def of_people(found: np.ndarray, wanted: np.ndarray, similarity: _Similarity) -> Score:
    """Return the mean similarity of wanted people [P, 18, 2] to the best match in [Q, 18, 2]."""
    from scipy.optimize import linear_sum_assignment

    measurable = [person for person in wanted if _is_measurable(person)]
    if not measurable:
        return Score(None, "no person with 3 joints is found in the source picture")
    table = np.array([[similarity(f, w) for f in found] for w in measurable])
    if not table.size:
        return Score(0.0)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return Score(float(table[rows, columns].sum() / len(measurable)))


@dataclass(frozen=True)
class PoseMetric:
    """How well the poses of the source picture are found again in the image."""

    name: str
    similarity: _Similarity
    words: str
    role: Role | None = None
    rank: int = LAST_RANK
    condition: str = OPENPOSE.name
    better: Better = "higher"
    level: Literal["image"] = "image"
    needs: tuple[str, ...] = POSE.needs

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        return f"{self.words} to the source picture's people"

    def recipe(self) -> str:
        """Return measure and detector."""
        return (
            f"{self.words}, mean over the source's people, best matched, box of joints as size; "
            f"{OPENPOSE.full_recipe()}"
        )

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether a plugin, alone or in a stack, has pose conditions."""
        return image.condition_of("openpose") is not None

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one score for each image, 0..1."""
        return [self._score(image) for image in images]

    def ceiling(self, image: ScoredImage) -> Score:
        """Return the score of the source picture itself, that of a perfect image."""
        return ceiling_by(self._score, image, detector="openpose")

    def selftest(self) -> None:
        """Check that a pose equals itself and differs from a shifted one, and that the net runs."""
        pose = np.random.default_rng(0).uniform(0, 100, (1, 18, 2))
        same, far = (of_people(pose + d, pose, self.similarity).value or 0.0 for d in (0, 90))
        expect(same == 1.0 and far < 0.5, f"{self.name}: {same} to itself, {far} when shifted")
        POSE.loaded().people(np.zeros((64, 64, 3), np.uint8))

    def _score(self, image: ScoredImage) -> Score:
        if image.load_source is None:
            return Score(None, "the case has no source picture to find poses in")
        source = image.load_source()
        height, width = source.shape[:2]
        people = POSE.loaded().people
        found = people(resize.to_size(image.load_picture(), (width, height)))
        return of_people(found, people(source), self.similarity)


def _box(joints: np.ndarray) -> np.ndarray:
    """Return width and height of the box around seen joints, 1 px at least."""
    return np.maximum(np.nanmax(joints, axis=0) - np.nanmin(joints, axis=0), 1.0)


def _is_measurable(person: np.ndarray) -> bool:
    return int((~np.isnan(person[_JOINTS, 0])).sum()) >= 3


POSE_OKS = PoseMetric("pose-oks", oks, "object keypoint similarity (17 joints)", "function", 140)
POSE_PCK = PoseMetric("pose-pck", pck, f"share of joints within {PCK_SHARE} of the box")
