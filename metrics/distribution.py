"""Distances between sets: Frechet (Heusel et al. 2017) and kernel (Binkowski et al. 2018).

Feature rows are float64 [N, D]. The Frechet distance is biased by about c/N; the kernel distance
is not, and has leave-one-prompt-out values for intervals.
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

STABLE_N = 2048
FULL_KERNEL_N = 5000
_INPUT = "every picture resized to 128 px (PIL bicubic, antialiased, float)"


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and unbiased covariance [D, D] of feature rows [N >= 2, D]."""
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance(
    mean_1: np.ndarray, covariance_1: np.ndarray, *, mean_2: np.ndarray, covariance_2: np.ndarray
) -> float:
    """|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^1/2) (Heusel et al. 2017, eq. 6).

    The last trace is the sum of the square roots of the eigenvalues of S1 S2, which are those of
    the symmetric L' S2 L with S1 = L L' (ours): exact where the covariances are singular.
    """
    eigenvalues, vectors = np.linalg.eigh(covariance_1)
    root = vectors * np.sqrt(eigenvalues.clip(0))
    shared = np.linalg.eigvalsh(root.T @ covariance_2 @ root).clip(0)
    step = mean_1 - mean_2
    traces = np.trace(covariance_1) + np.trace(covariance_2)
    return float(step @ step + traces - 2 * np.sqrt(shared).sum())


def kernel_distance(x: np.ndarray, y: np.ndarray, *, within_y: float | None = None) -> float:
    """Unbiased squared MMD of rows x [M, D] and y [N, D] under the kernel (x.y / D + 1)^3.

    `within_y` is `mean_kernel(y)` where it is known. Source: Binkowski et al. 2018,
    arXiv 1801.01401, section 4; Gretton et al. 2012, eq. 3.
    """
    within = mean_kernel(x) + (mean_kernel(y) if within_y is None else within_y)
    return within - 2 * float(_kernel(x, y).mean())


def kernel_distance_of_subsets(
    x: np.ndarray, y: np.ndarray, *, subset_size: int = 1000, n_subsets: int = 100, seed: int = 0
) -> float:
    """Mean kernel distance over seeded random subsets of at most `subset_size` rows of each."""
    rng = np.random.default_rng(seed)
    size = min(subset_size, len(x), len(y))
    draws = [
        kernel_distance(
            x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)]
        )
        for _ in range(n_subsets)
    ]
    return float(np.mean(draws))


def mean_kernel(rows: np.ndarray) -> float:
    """Mean kernel of all pairs of different rows [N >= 2, D]."""
    if len(rows) < 2:
        raise ValueError(f"a kernel distance needs 2 rows on each side, got {len(rows)}")
    square = _kernel(rows, rows)
    return float((square.sum() - np.trace(square)) / (len(rows) * (len(rows) - 1)))


def kernel_leave_one_out(
    x: np.ndarray, y: np.ndarray, *, clusters: Sequence[str], within_y: float | None = None
) -> dict[str, float]:
    """Cluster name -> kernel distance without that cluster's rows of x, in O(M^2 + M N).

    A cluster that leaves fewer than two rows behind has no value.
    """
    within, across = _kernel(x, x), _kernel(x, y).mean(axis=1)
    np.fill_diagonal(within, 0.0)
    names, labels = np.unique(np.asarray(clusters), return_inverse=True)
    member_ic = (labels[:, None] == np.arange(len(names))).astype(float)
    inside = np.einsum("ic,ic->c", member_ic, within @ member_ic)
    touched = 2 * within.sum(axis=1) @ member_ic - inside
    rest = len(x) - member_ic.sum(axis=0)
    keep = rest >= 2
    rest = np.where(keep, rest, 2)
    mean_within = (within.sum() - touched) / (rest * (rest - 1))
    mean_across = (across.sum() - across @ member_ic) / rest
    left = mean_within + (mean_kernel(y) if within_y is None else within_y) - 2 * mean_across
    return {str(n): float(v) for n, v, k in zip(names, left, keep, strict=True) if k}


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


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


@cache
def _within(reference: Callable[[], np.ndarray]) -> float:
    return mean_kernel(reference())


@cache
def _moments(reference: Callable[[], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return moments(reference())
