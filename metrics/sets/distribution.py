"""Distances of pocket images to the upgraded model's, in the pocket scorer's features.

Frechet (Heusel et al. 2017) and kernel (Binkowski et al. 2018); the formulas are in `distances`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from metrics.base import Better, MetricUnavailableError, References, Score, ScoredImage, expect
from metrics.pocket_scorer import (
    NEEDS,
    HashSource,
    ScorerSource,
    encoder_name,
    shipped_scorer,
    shipped_sha256,
)
from metrics.sets.formulas import (
    frechet_distance,
    kernel_distance,
    kernel_distance_of_subsets,
    kernel_leave_one_out,
    mean_kernel,
    moments,
)

STABLE_N = 2048
FULL_KERNEL_N = 5000
_INPUT = "every picture resized to 128 px (PIL bicubic, antialiased, float)"


def shipped_reference() -> np.ndarray:
    """Features of the upgraded model without plugin on held-out prompts, float64 [N, 64]."""
    return _read_reference()


@cache
def _read_reference() -> np.ndarray:
    from safetensors.numpy import load_file

    from pocket import weights

    try:
        return load_file(weights.part_path("reference"))["features"].astype(np.float64)
    except weights.WeightsError as error:
        raise MetricUnavailableError(str(error)) from error


@dataclass(frozen=True)
class PocketDistance:
    """Distance of a set to held-out images of the upgraded model in the scorer's features."""

    name: str
    kind: Literal["frechet", "kernel"]
    scorer: ScorerSource = shipped_scorer
    scorer_sha256: HashSource = shipped_sha256
    reference: Callable[[], np.ndarray] = shipped_reference
    reference_sha256: HashSource = lambda: shipped_sha256("reference")
    better: Better = "lower"
    level: Literal["group"] = "group"
    needs: tuple[str, ...] = (*NEEDS, "pocket reference features (shipped)")

    @property
    def summary(self) -> str:
        """One line for `xbench metrics list`."""
        return f"{self.kind} distance to held-out images of the upgraded model, pocket features"

    def recipe(self) -> str:
        """Distance, features, resize and reference set."""
        how = {
            "frechet": "Frechet distance, eigenvalue form",
            "kernel": f"unbiased MMD^2, kernel (x.y/d+1)^3, full sets up to {FULL_KERNEL_N}, "
            "else 100 subsets of 1000, seed 0",
        }[self.kind]
        reference = f"upgraded model, held-out prompts {self.reference_sha256()[:12]}"
        return f"{how}; {encoder_name(self.scorer_sha256())}; {_INPUT}; reference: {reference}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Every image has a quality."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> Score:
        """The distance, 0 for equal distributions; the kernel's may fall below 0 by chance."""
        if len(images) < 2:
            return Score(None, f"a distribution needs at least 2 images, there is {len(images)}")
        rows = references.features.of_images(
            images, encoder=encoder_name(self.scorer_sha256()), encode=self.scorer().features
        )
        return self._frechet(rows) if self.kind == "frechet" else self._kernel(rows, images)

    def selftest(self) -> None:
        """Equal halves of the reference are near, a shifted half is far."""
        reference = self.reference()
        a, b = reference[::2], reference[1::2]
        near, far = self._between(a, b), self._between(a, b + 3 * reference.std(axis=0))
        expect(near < far / 10, f"{self.name}: halves are {near:.3g} apart, shifted {far:.3g}")

    def _frechet(self, rows: np.ndarray) -> Score:
        unstable = f"unstable: n = {len(rows)} < {STABLE_N}" if len(rows) < STABLE_N else None
        (mean_1, covariance_1), (mean_2, covariance_2) = moments(rows), _moments(self.reference)
        return Score(
            frechet_distance(mean_1, covariance_1, mean_2=mean_2, covariance_2=covariance_2),
            unstable,
        )

    def _kernel(self, rows: np.ndarray, images: Sequence[ScoredImage]) -> Score:
        reference = self.reference()
        if len(rows) > FULL_KERNEL_N:
            return Score(kernel_distance_of_subsets(rows, reference))
        within = _within(self.reference)
        prompts = [image.prompt for image in images]
        left_out = kernel_leave_one_out(rows, reference, clusters=prompts, within_y=within)
        return Score(kernel_distance(rows, reference, within_y=within), leave_one_out=left_out)

    def _between(self, x: np.ndarray, y: np.ndarray) -> float:
        if self.kind == "kernel":
            return kernel_distance(x, y)
        (mean_1, covariance_1), (mean_2, covariance_2) = moments(x), moments(y)
        return frechet_distance(mean_1, covariance_1, mean_2=mean_2, covariance_2=covariance_2)


def pocket_fid() -> PocketDistance:
    """Frechet distance on pocket features."""
    return PocketDistance("pocket-fid", "frechet")


def pocket_kid() -> PocketDistance:
    """Kernel distance on pocket features."""
    return PocketDistance("pocket-kid", "kernel")


@cache
def _within(reference: Callable[[], np.ndarray]) -> float:
    return mean_kernel(reference())


@cache
def _moments(reference: Callable[[], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return moments(reference())
