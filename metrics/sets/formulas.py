"""Distances between two sets of feature rows: Frechet, and kernel (maximum mean discrepancy).

Rows are float64 [N, D]. The Frechet distance is biased by about c/N; the kernel distances are not,
and have values without each cluster of rows for intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.features import unit

KernelName = Literal["polynomial", "gaussian"]
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]  # rows [M, D], [N, D] -> [M, N]
N_INFINITY_SIZES = 15
CMMD_SIGMA, CMMD_SCALE = 10.0, 1000.0
_BLOCK_VALUES = 20_000_000  # kernel values held at once


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean [D] and unbiased covariance [D, D] of feature rows [N >= 2, D]."""
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance(
    mean_1: np.ndarray, covariance_1: np.ndarray, *, mean_2: np.ndarray, covariance_2: np.ndarray
) -> float:
    """Return |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^1/2) (Heusel et al. 2017, eq. 6).

    The last trace is the sum of the square roots of the eigenvalues of S1 S2, which are those of
    the symmetric L' S2 L with S1 = L L' (ours): exact where the covariances are singular.
    """
    eigenvalues, vectors = np.linalg.eigh(covariance_1)
    root = vectors * np.sqrt(eigenvalues.clip(0))
    shared = np.linalg.eigvalsh(root.T @ covariance_2 @ root).clip(0)
    step = mean_1 - mean_2
    traces = np.trace(covariance_1) + np.trace(covariance_2)
    return float(step @ step + traces - 2 * np.sqrt(shared).sum())


def frechet_of_rows(x: np.ndarray, y: np.ndarray) -> float:
    """Return `frechet_distance` of the moments of rows x [M, D] and y [N, D], M, N >= 2.

    Below D rows the covariances are singular; Tr (S1 S2)^1/2 is then the sum of the singular
    values of X Y' / sqrt((M - 1)(N - 1)) with centered X and Y, which needs no D x D matrix (ours).
    """
    if min(len(x), len(y)) >= x.shape[1]:
        (mean_1, covariance_1), (mean_2, covariance_2) = moments(x), moments(y)
        return frechet_distance(mean_1, covariance_1, mean_2=mean_2, covariance_2=covariance_2)
    mean_1, mean_2 = x.mean(axis=0), y.mean(axis=0)
    a, b = (x - mean_1) / np.sqrt(len(x) - 1), (y - mean_2) / np.sqrt(len(y) - 1)
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    step = mean_1 - mean_2
    return float(step @ step + (a**2).sum() + (b**2).sum() - 2 * shared)


def frechet_infinity(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> float:
    """Return the Frechet distance of rows x to y, extrapolated to infinitely many rows of x.

    A line in 1/N through the distances of seeded subsets of N/2 to N rows, read at 1/N = 0; the
    bias of y's own size stays. Source: Chong and Forsyth 2020, arXiv 1911.07023, section 4, which
    takes the subsets from 5,000 on.
    """
    rng = np.random.default_rng(seed)
    sizes = np.linspace(max(2, len(x) // 2), len(x), N_INFINITY_SIZES).astype(int)
    found = [frechet_of_rows(x[rng.choice(len(x), n, replace=False)], y) for n in sizes]
    return float(np.polyfit(1 / sizes, found, 1)[1])


def polynomial_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return (x.y / D + 1)^3 (Binkowski et al. 2018, arXiv 1801.01401, section 4)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return exp(-|x - y|^2 / (2 sigma^2)), sigma 10 (Jayasumana et al., arXiv 2401.09603)."""
    square = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None] - 2 * x @ y.T
    return np.exp(-square.clip(0) / (2 * CMMD_SIGMA**2))


@dataclass(frozen=True)
class KernelForm:
    """A kernel, the factor of its distances, and whether it takes rows of length 1."""

    kernel: Kernel
    scale: float
    takes_unit_rows: bool
    words: str

    def ready(self, rows: np.ndarray) -> np.ndarray:
        """Return rows [N, D] as the kernel takes them."""
        return unit(rows) if self.takes_unit_rows else rows


KERNELS: Mapping[str, KernelForm] = {
    "polynomial": KernelForm(polynomial_kernel, 1.0, False, "MMD^2, kernel (x.y/d+1)^3"),
    "gaussian": KernelForm(
        gaussian_kernel,
        CMMD_SCALE,
        True,
        f"{CMMD_SCALE:g} x MMD^2 on unit rows, Gaussian kernel sigma {CMMD_SIGMA:g}",
    ),
}


def kernel_distance(
    x: np.ndarray,
    y: np.ndarray,
    *,
    kernel: Kernel = polynomial_kernel,
    within_y: float | None = None,
) -> float:
    """Return unbiased squared MMD of rows x [M, D] and y [N, D] (Gretton et al. 2012, eq. 3).

    `within_y` is `mean_kernel(y)` where it is known.
    """
    within = mean_kernel(x, kernel) + (mean_kernel(y, kernel) if within_y is None else within_y)
    return within - 2 * float(kernel(x, y).mean())


def kernel_distance_of_subsets(
    x: np.ndarray,
    y: np.ndarray,
    *,
    kernel: Kernel = polynomial_kernel,
    subset_size: int = 1000,
    n_subsets: int = 100,
    seed: int = 0,
) -> float:
    """Return the mean kernel distance over seeded random subsets of `subset_size` rows at most."""
    rng = np.random.default_rng(seed)
    size = min(subset_size, len(x), len(y))
    draws = [
        kernel_distance(
            x[rng.choice(len(x), size, replace=False)],
            y[rng.choice(len(y), size, replace=False)],
            kernel=kernel,
        )
        for _ in range(n_subsets)
    ]
    return float(np.mean(draws))


def mean_kernel(rows: np.ndarray, kernel: Kernel = polynomial_kernel) -> float:
    """Return the mean kernel of all pairs of different rows [N >= 2, D]."""
    if len(rows) < 2:
        raise ValueError(f"a kernel distance needs 2 rows on each side, got {len(rows)}")
    square = kernel(rows, rows)
    return float((square.sum() - np.trace(square)) / (len(rows) * (len(rows) - 1)))


def kernel_leave_one_out(
    x: np.ndarray,
    y: np.ndarray,
    *,
    clusters: Sequence[str],
    kernel: Kernel = polynomial_kernel,
    within_y: float | None = None,
) -> dict[str, float]:
    """Return cluster name -> kernel distance without its rows of x, in O(M^2 + M N).

    A cluster that leaves fewer than two rows behind has no value.
    """
    within, across = kernel(x, x), kernel(x, y).mean(axis=1)
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
    inside_y = mean_kernel(y, kernel) if within_y is None else within_y
    left = mean_within + inside_y - 2 * mean_across
    return {str(n): float(v) for n, v, k in zip(names, left, keep, strict=True) if k}


def cross_prompt_kernel_distance(
    x: np.ndarray,
    y: np.ndarray,
    *,
    prompts_x: Sequence[str],
    prompts_y: Sequence[str],
    kernel: Kernel = polynomial_kernel,
) -> tuple[float, dict[str, float]]:
    """Return the squared MMD of rows x [M, D] and y [N, D], and its values without each prompt.

    Only pairs of rows of different prompts count (ours). Two methods of one run share prompts and
    seeds: a pair of one prompt is similar in content, whatever the distributions are. Without such
    pairs a set is 0 from itself, and another draw of the same distribution is 0 on average. Prompts
    are left out on both sides at once.

    Raises ValueError with fewer than two prompts on a side; a prompt that leaves fewer behind has
    no value.
    """
    if min(len(set(prompts_x)), len(set(prompts_y))) < 2:
        raise ValueError("pairs of different prompts need 2 prompts on each side")
    names, labels = np.unique([*prompts_x, *prompts_y], return_inverse=True)
    of_x, of_y = labels[: len(prompts_x)], labels[len(prompts_x) :]
    terms = [
        _cross_term(a, b, of_a, of_b, kernel=kernel, n_names=len(names))
        for a, b, of_a, of_b in ((x, x, of_x, of_x), (y, y, of_y, of_y), (x, y, of_x, of_y))
    ]
    weights = (1.0, 1.0, -2.0)  # k(x, x) + k(y, y) - 2 k(x, y)
    value = sum(w * term.mean for w, term in zip(weights, terms, strict=True))
    left = sum(w * term.means_without for w, term in zip(weights, terms, strict=True))
    found = zip(names, np.atleast_1d(left), strict=True)
    return float(value), {str(name): float(v) for name, v in found if np.isfinite(v)}


def cross_prompt_means(
    x: np.ndarray,
    y: np.ndarray,
    *,
    prompts_x: Sequence[str],
    prompts_y: Sequence[str],
    kernel: Kernel = polynomial_kernel,
) -> tuple[float, dict[str, float]]:
    """Return the mean kernel over pairs of rows of different prompts, and without each prompt.

    Raises ValueError with fewer than two prompts on a side.
    """
    if min(len(set(prompts_x)), len(set(prompts_y))) < 2:
        raise ValueError("pairs of different prompts need 2 prompts on each side")
    names, labels = np.unique([*prompts_x, *prompts_y], return_inverse=True)
    of_x, of_y = labels[: len(prompts_x)], labels[len(prompts_x) :]
    term = _cross_term(x, y, of_x, of_y, kernel=kernel, n_names=len(names))
    found = zip(names, term.means_without, strict=True)
    return term.mean, {str(name): float(v) for name, v in found if np.isfinite(v)}


@dataclass(frozen=True)
class _CrossTerm:
    """Mean kernel over pairs of different prompts, [P] without each prompt (NaN: no pair left)."""

    mean: float
    means_without: np.ndarray


def _cross_term(
    a: np.ndarray,
    b: np.ndarray,
    of_a: np.ndarray,
    of_b: np.ndarray,
    *,
    kernel: Kernel,
    n_names: int,
) -> _CrossTerm:
    """Sum the kernel by prompt, in blocks of rows, so that the full matrix is never in memory."""
    order = np.argsort(of_b, kind="stable")
    b, of_b = b[order], of_b[order]
    present, starts = np.unique(of_b, return_index=True)
    # of each prompt: sum over its rows of a, over its rows of b, and over pairs within the prompt
    rows, columns, same = np.zeros(n_names), np.zeros(n_names), np.zeros(n_names)
    n_rows = max(1, _BLOCK_VALUES // max(1, len(b)))
    for start in range(0, len(a), n_rows):
        labels = of_a[start : start + n_rows]
        by_prompt = np.zeros((len(labels), n_names))
        by_prompt[:, present] = np.add.reduceat(kernel(a[start : start + n_rows], b), starts, 1)
        rows += np.bincount(labels, weights=by_prompt.sum(axis=1), minlength=n_names)
        columns += by_prompt.sum(axis=0)
        own = by_prompt[np.arange(len(labels)), labels]
        same += np.bincount(labels, weights=own, minlength=n_names)
    n_a, n_b = (np.bincount(of, minlength=n_names).astype(float) for of in (of_a, of_b))
    total, n_pairs = rows.sum() - same.sum(), len(a) * len(b) - n_a @ n_b
    # without a prompt, its row and its column are gone; pairs within it never counted
    touched = rows + columns - 2 * same
    n_touched = n_a * len(b) + n_b * len(a) - 2 * n_a * n_b
    left = n_pairs - n_touched
    without = np.where(left > 0, (total - touched) / np.maximum(left, 1), np.nan)
    return _CrossTerm(float(total / n_pairs), without)
