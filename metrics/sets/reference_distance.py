"""Distances between sets of images in the features of published networks.

FID (Heusel et al. 2017, arXiv 1706.08500), FID-infinity (Chong and Forsyth 2020, arXiv 1911.07023),
KID (Binkowski et al. 2018, arXiv 1801.01401), CMMD (Jayasumana et al. 2024, arXiv 2401.09603) and
FD-DINOv2 (Stein et al. 2023, arXiv 2306.04675). The formulas are in `distances`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import Better, References, Score, ScoredImage, expect
from metrics.encoders import CLIP_336, DINOV2, INCEPTION, Encoder
from metrics.features import unit
from metrics.sets import formulas as distances
from metrics.sets.distribution import FULL_KERNEL_N, STABLE_N
from metrics.sets.reference_set import is_reference, reference_recipe, reference_rows

Formula = Literal["frechet", "frechet-infinity", "polynomial", "gaussian"]
_WORDS: dict[Formula, str] = {
    "frechet": "Frechet distance, eigenvalue form",
    "frechet-infinity": "Frechet distance extrapolated in 1/N over 15 subsets of N/2 to N, seed 0",
    "polynomial": f"unbiased MMD^2, kernel (x.y/d+1)^3, full sets up to {FULL_KERNEL_N}, else 100 "
    "subsets of 1000, seed 0",
    "gaussian": f"{distances.CMMD_SCALE:g} x unbiased MMD^2 on unit rows, Gaussian kernel sigma "
    f"{distances.CMMD_SIGMA:g}, full sets up to {FULL_KERNEL_N}, else 100 subsets of 1000, seed 0",
}


@dataclass(frozen=True)
class SetDistance:
    """Distance of a set of images to the upgraded model's images without the plugin."""

    name: str
    title: str
    formula: Formula
    encoder: Encoder
    better: Better = "lower"
    level: Literal["group"] = "group"

    @property
    def summary(self) -> str:
        """One line for `xbench metrics list`."""
        return f"{self.title}: distance to the upgraded model's images without plugin"

    @property
    def needs(self) -> tuple[str, ...]:
        """The weights."""
        return (self.encoder.weights.name,)

    def recipe(self) -> str:
        """Formula, network, input and reference."""
        return f"{_WORDS[self.formula]}; {self.encoder.recipe()}; {reference_recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Every image has a quality."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> Score:
        """The distance, 0 for equal distributions; a kernel's may fall below 0 by chance."""
        if images and all(is_reference(image) for image in images):
            return Score(None, "self-reference: these are the reference images")
        if len(images) < 2:
            return Score(None, f"a distribution needs at least 2 images, there is {len(images)}")
        in_order = sorted(images, key=lambda image: image.trial_id)
        reference, caution = reference_rows(in_order, references, self.encoder)
        if len(reference) < 2:
            return Score(None, "there are no 2 images of the upgraded model without plugin")
        rows = self.encoder.rows(in_order, references)
        if self.formula in ("frechet", "frechet-infinity"):
            return self._frechet(rows, reference, caution)
        return self._kernel(rows, reference, [image.prompt for image in in_order], caution)

    def selftest(self) -> None:
        """The network loads and repeats itself; equal sets are near, shifted ones far."""
        pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
        rows = self.encoder.encode([*pictures, pictures[0]])
        expect(np.array_equal(rows[0], rows[-1]), "the same picture gives other features")
        shifted = self.encoder.encode([p // 4 for p in pictures])
        near = self.between(rows[:3], rows[:3])
        far = self.between(rows[:3], shifted)
        expect(near < far, f"{self.name}: {near:.3g} to itself, {far:.3g} to darker pictures")

    def between(self, x: np.ndarray, y: np.ndarray) -> float:
        """The distance of feature rows x [M, D] to y [N, D]."""
        if self.formula == "frechet":
            return distances.frechet_of_rows(x, y)
        if self.formula == "frechet-infinity":
            return distances.frechet_infinity(x, y)
        if self.formula == "polynomial":
            return self._of_kernel(x, y, distances.polynomial_kernel)
        gaussian = self._of_kernel(unit(x), unit(y), distances.gaussian_kernel)
        return distances.CMMD_SCALE * gaussian

    def _of_kernel(self, x: np.ndarray, y: np.ndarray, kernel: distances.Kernel) -> float:
        if max(len(x), len(y)) > FULL_KERNEL_N:
            return distances.kernel_distance_of_subsets(x, y, kernel=kernel)
        return distances.kernel_distance(x, y, kernel=kernel)

    def _frechet(self, rows: np.ndarray, reference: np.ndarray, caution: str | None) -> Score:
        n = min(len(rows), len(reference))
        unstable = f"unstable: n = {n} < {STABLE_N}" if n < STABLE_N else None
        reasons = [reason for reason in (unstable, caution) if reason]
        return Score(self.between(rows, reference), "; ".join(reasons) or None)

    def _kernel(
        self, rows: np.ndarray, reference: np.ndarray, prompts: list[str], caution: str | None
    ) -> Score:
        value = self.between(rows, reference)
        if max(len(rows), len(reference)) > FULL_KERNEL_N:
            return Score(value, caution)
        is_gaussian = self.formula == "gaussian"
        left_out = distances.kernel_leave_one_out(
            unit(rows) if is_gaussian else rows,
            unit(reference) if is_gaussian else reference,
            clusters=prompts,
            kernel=distances.gaussian_kernel if is_gaussian else distances.polynomial_kernel,
        )
        scale = distances.CMMD_SCALE if is_gaussian else 1.0
        return Score(value, caution, {name: scale * left for name, left in left_out.items()})


def fid() -> SetDistance:
    """Frechet Inception distance."""
    return SetDistance("fid", "FID", "frechet", INCEPTION)


def fid_infinity() -> SetDistance:
    """FID without the bias of a small set."""
    return SetDistance("fid-infinity", "FID-infinity", "frechet-infinity", INCEPTION)


def kid() -> SetDistance:
    """Kernel Inception distance."""
    return SetDistance("kid", "KID", "polynomial", INCEPTION)


def cmmd() -> SetDistance:
    """CLIP maximum mean discrepancy."""
    return SetDistance("cmmd", "CMMD", "gaussian", CLIP_336)


def fd_dinov2() -> SetDistance:
    """Frechet distance on DINOv2."""
    return SetDistance("fd-dinov2", "FD-DINOv2", "frechet", DINOV2)
