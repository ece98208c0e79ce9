"""Distances of sets of images to images of the upgraded model without the plugin.

FID (Heusel et al. 2017, arXiv 1706.08500), FID-infinity (Chong and Forsyth 2020, arXiv 1911.07023),
KID (Binkowski et al. 2018, arXiv 1801.01401), CMMD (Jayasumana et al. 2024, arXiv 2401.09603),
FD-DINOv2 (Stein et al. 2023, arXiv 2306.04675) and MIND (Berthet et al. 2026, arXiv 2605.06797).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import LAST_RANK, Better, References, Role, Score, ScoredImage, expect
from metrics.encoders import CLIP_336, DINOV2, INCEPTION, RowSource
from metrics.pocket_scorer import PocketEncoder
from metrics.sets import formulas, sliced
from metrics.sets.reference_set import (
    FOLDER_VARIABLE,
    UPGRADED_IMAGES,
    Reference,
    ShippedFeatures,
)

# "moments" is "frechet" by way of covariances even where they are singular: another rounding
Formula = Literal["frechet", "moments", "frechet-infinity", "polynomial", "gaussian", "sliced"]
STABLE_N = 2048
INFORMATIVE_N = 1000  # from where on the sliced distance tells models apart, by its authors
FULL_KERNEL_N = 5000
# rows per dimension below which the line in 1/N is biased: 64 dimensions and equal distributions
# give 62 at N = 12, -3.8 at N = 64
INFINITY_ROWS = 3
_SUBSETS = f"full sets up to {FULL_KERNEL_N}, else 100 subsets of 1000, seed 0"
_WORDS: dict[Formula, str] = {
    "frechet": "Frechet distance, eigenvalue form",
    "moments": "Frechet distance, eigenvalue form",
    "frechet-infinity": "Frechet distance extrapolated in 1/N over 15 subsets of N/2 to N, seed 0",
    "polynomial": f"unbiased MMD^2, kernel (x.y/d+1)^3, {_SUBSETS}",
    "gaussian": f"{formulas.CMMD_SCALE:g} x unbiased MMD^2 on unit rows, Gaussian kernel sigma "
    f"{formulas.CMMD_SIGMA:g}, {_SUBSETS}",
    "sliced": f"{sliced.SCALE_PER_DIMENSION:g} D x mean squared 2-Wasserstein distance over "
    f"{sliced.N_DIRECTIONS} random directions, seed 0",
}
_OWN_REFERENCE = (
    "the extrapolation is biased where the reference is the run's own images: set "
    f"{FOLDER_VARIABLE} to held-out images"
)


@dataclass(frozen=True)
class SetDistance:
    """Distance of a set of images to the upgraded model's images without the plugin."""

    name: str
    title: str
    formula: Formula
    encoder: RowSource
    reference: Reference = UPGRADED_IMAGES
    role: Role | None = None
    rank: int = LAST_RANK
    family: str | None = None
    better: Better = "lower"
    level: Literal["group"] = "group"

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        return f"{self.title}: distance to the upgraded model's images without plugin"

    @property
    def encoders(self) -> tuple[RowSource, ...]:
        """Return the networks whose rows are all that it takes from pictures."""
        return (self.encoder,)

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the weights and of what the reference needs."""
        return (*self.encoder.needs, *self.reference.needs)

    @property
    def compares_with(self) -> tuple[str, ...]:
        """Return the methods whose images it needs."""
        return ("floor",) if self.reference.is_of_run() else ()

    def recipe(self) -> str:
        """Return formula, network, input and reference."""
        return f"{_WORDS[self.formula]}; {self.encoder.recipe()}; {self.reference.recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return True: every image has a quality."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> Score:
        """Return the distance, 0 for equal distributions; a kernel's may be below 0 by chance."""
        if (why := self._refused(images)) is not None:
            return Score(None, why)
        # the order decides which rows the seeded subsets take; moments have none, but round by it
        by_id = sorted(images, key=lambda image: image.trial_id)
        in_order = images if self.formula == "moments" else by_id
        reference, caution = self.reference.rows(in_order, references, self.encoder)
        if len(reference) < 2:
            return Score(None, "there are no 2 images of the upgraded model without plugin")
        rows = self.encoder.rows(in_order, references)
        if (form := formulas.KERNELS.get(self.formula)) is not None:
            prompts = [image.prompt for image in in_order]
            return self._kernel(form, rows, reference, prompts=prompts, caution=caution)
        if self.formula == "sliced":
            return self._sliced(rows, reference, in_order, caution)
        if self.formula == "frechet-infinity" and (few := _too_few(rows, reference)):
            return Score(None, few)
        return self._frechet(rows, reference, caution)

    def selftest(self) -> None:
        """Check that features repeat, and that equal sets are nearer than darkened ones."""
        pictures = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
        rows = self.encoder.encode([*pictures, pictures[0]])
        expect(np.array_equal(rows[0], rows[-1]), "the same picture gives other features")
        shifted = self.encoder.encode([p // 4 for p in pictures])
        near = self.between(rows[:3], rows[:3])
        far = self.between(rows[:3], shifted)
        expect(near < far, f"{self.name}: {near:.3g} to itself, {far:.3g} to darker pictures")

    def between(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the distance of feature rows x [M, D] to y [N, D]."""
        if self.formula == "frechet":
            return formulas.frechet_of_rows(x, y)
        if self.formula == "moments":
            (mean_1, covariance_1), (mean_2, covariance_2) = map(formulas.moments, (x, y))
            second = {"mean_2": mean_2, "covariance_2": covariance_2}
            return formulas.frechet_distance(mean_1, covariance_1, **second)
        if self.formula == "frechet-infinity":
            return formulas.frechet_infinity(x, y)
        if self.formula == "sliced":
            return sliced.sliced_distance(x, y)
        form = formulas.KERNELS[self.formula]
        is_full = max(len(x), len(y)) <= FULL_KERNEL_N
        of = formulas.kernel_distance if is_full else formulas.kernel_distance_of_subsets
        return form.scale * of(form.ready(x), form.ready(y), kernel=form.kernel)

    def _refused(self, images: Sequence[ScoredImage]) -> str | None:
        """Return why a set has no distance, as far as that is known without features."""
        if images and all(self.reference.contains(image) for image in images):
            return "self-reference: these are the reference images"
        if len(images) < 2:
            return f"a distribution needs at least 2 images, there is {len(images)}"
        if self.formula == "frechet-infinity" and self.reference.is_of_run():
            return _OWN_REFERENCE
        return None

    def _frechet(self, rows: np.ndarray, reference: np.ndarray, caution: str | None) -> Score:
        n = min(len(rows), len(reference))
        unstable = f"unstable: n = {n} < {STABLE_N}" if n < STABLE_N else None
        reasons = [reason for reason in (unstable, caution) if reason]
        return Score(self.between(rows, reference), "; ".join(reasons) or None)

    def _sliced(
        self,
        rows: np.ndarray,
        reference: np.ndarray,
        images: Sequence[ScoredImage],
        caution: str | None,
    ) -> Score:
        n, prompts = min(len(rows), len(reference)), [image.prompt for image in images]
        few = f"biased upward: n = {n} < {INFORMATIVE_N}" if n < INFORMATIVE_N else None
        reason = "; ".join(one for one in (few, caution) if one) or None
        value = self.between(rows, reference)
        if len(set(prompts)) * (len(rows) + len(reference)) > sliced.LEAVE_OUT_VALUES:
            return Score(value, reason)
        left_out = sliced.sliced_leave_one_out(rows, reference, clusters=prompts)
        return Score(value, reason, left_out)

    def _kernel(
        self,
        form: formulas.KernelForm,
        rows: np.ndarray,
        reference: np.ndarray,
        *,
        prompts: list[str],
        caution: str | None,
    ) -> Score:
        value = self.between(rows, reference)
        if max(len(rows), len(reference)) > FULL_KERNEL_N:
            return Score(value, caution)
        left_out = formulas.kernel_leave_one_out(
            form.ready(rows), form.ready(reference), clusters=prompts, kernel=form.kernel
        )
        return Score(value, caution, {name: form.scale * left for name, left in left_out.items()})


def _too_few(rows: np.ndarray, reference: np.ndarray) -> str | None:
    """Return why an extrapolation from these rows is biased; None if it is not."""
    needed = INFINITY_ROWS * rows.shape[1]
    if min(len(rows), len(reference)) >= needed:
        return None
    return (
        f"the extrapolation is biased below {needed} images on a side ({INFINITY_ROWS} x "
        f"{rows.shape[1]} dimensions): {len(rows)} images, {len(reference)} of the reference"
    )


FID = SetDistance("fid", "FID", "frechet", INCEPTION, role="quality", rank=70)
FID_INFINITY = SetDistance("fid-infinity", "FID-infinity", "frechet-infinity", INCEPTION)
FD_DINOV2 = SetDistance("fd-dinov2", "FD-DINOv2", "frechet", DINOV2)
MIND = SetDistance("mind", "MIND", "sliced", INCEPTION)
MIND_DINOV2 = SetDistance("mind-dinov2", "MIND in DINOv2's features", "sliced", DINOV2)
# distances of pairs of different prompts (run_distance.py) have lower ranks: prompts on both sides
# cancel their spread
KID = SetDistance("kid", "KID", "polynomial", INCEPTION, role="quality", rank=20)
CMMD = SetDistance("cmmd", "CMMD", "gaussian", CLIP_336, role="quality", rank=30)
_POCKET = PocketEncoder(words="; every picture resized to 128 px (PIL bicubic, antialiased, float)")
POCKET_FID = SetDistance(
    "pocket-fid",
    "Pocket FID",
    "moments",
    _POCKET,
    ShippedFeatures(),
    role="quality",
    rank=60,
    family="pocket",
)
POCKET_MIND = SetDistance("pocket-mind", "Pocket MIND", "sliced", _POCKET, ShippedFeatures())
POCKET_KID = SetDistance(
    "pocket-kid",
    "Pocket KID",
    "polynomial",
    _POCKET,
    ShippedFeatures(),
    role="quality",
    rank=10,
    family="pocket",
)
