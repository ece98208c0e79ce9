"""Kernel distance of two sets that share prompts, over pairs of rows of different prompts (ours).

Two methods of one run are asked the same prompts with the same seeds: a pair of one prompt says
that the content is alike, not the distribution. Without such pairs a set is 0 from itself, and
another draw of the same distribution is 0 on average. A prompt is left out on both sides at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metrics.sets.formulas import Kernel, polynomial_kernel

_BLOCK_VALUES = 20_000_000  # kernel values held at once


def apart_kernel_distance(
    x: np.ndarray,
    y: np.ndarray,
    *,
    prompts_x: Sequence[str],
    prompts_y: Sequence[str],
    kernel: Kernel = polynomial_kernel,
) -> tuple[float, dict[str, float]]:
    """Squared MMD of rows x [M, D] and y [N, D], and its values without each prompt.

    Raises ValueError with fewer than two prompts on a side; a prompt that leaves fewer behind has
    no value.
    """
    if min(len(set(prompts_x)), len(set(prompts_y))) < 2:
        raise ValueError("pairs of different prompts need 2 prompts on each side")
    names, labels = np.unique([*prompts_x, *prompts_y], return_inverse=True)
    of_x, of_y = labels[: len(prompts_x)], labels[len(prompts_x) :]
    n_names = len(names)
    parts = [
        _term(x, x, of_x, of_x, kernel=kernel, n_names=n_names),
        _term(y, y, of_y, of_y, kernel=kernel, n_names=n_names),
        _term(x, y, of_x, of_y, kernel=kernel, n_names=n_names),
    ]
    weights = (1.0, 1.0, -2.0)
    value = sum(w * part.mean for w, part in zip(weights, parts, strict=True))
    left = sum(w * part.means_without for w, part in zip(weights, parts, strict=True))
    found = zip(names, np.atleast_1d(left), strict=True)
    return float(value), {str(name): float(v) for name, v in found if np.isfinite(v)}


@dataclass(frozen=True)
class _Term:
    """Mean kernel over pairs of different prompts, [P] without each prompt (NaN: no pair left)."""

    mean: float
    means_without: np.ndarray


def _term(
    a: np.ndarray,
    b: np.ndarray,
    of_a: np.ndarray,
    of_b: np.ndarray,
    *,
    kernel: Kernel,
    n_names: int,
) -> _Term:
    """Sums of the kernel by prompt, in blocks of rows, so that no whole matrix is held."""
    order = np.argsort(of_b, kind="stable")
    b, of_b = b[order], of_b[order]
    present, starts = np.unique(of_b, return_index=True)
    rows, columns, same = np.zeros(n_names), np.zeros(n_names), np.zeros(n_names)
    n_rows = max(1, _BLOCK_VALUES // max(1, len(b)))
    for start in range(0, len(a), n_rows):
        mine = of_a[start : start + n_rows]
        by_prompt = np.zeros((len(mine), n_names))
        by_prompt[:, present] = np.add.reduceat(kernel(a[start : start + n_rows], b), starts, 1)
        rows += np.bincount(mine, weights=by_prompt.sum(axis=1), minlength=n_names)
        columns += by_prompt.sum(axis=0)
        own = by_prompt[np.arange(len(mine)), mine]
        same += np.bincount(mine, weights=own, minlength=n_names)
    n_a, n_b = (np.bincount(of, minlength=n_names).astype(float) for of in (of_a, of_b))
    total, n_pairs = rows.sum() - same.sum(), len(a) * len(b) - n_a @ n_b
    touched = rows + columns - 2 * same
    n_touched = n_a * len(b) + n_b * len(a) - 2 * n_a * n_b
    left = n_pairs - n_touched
    without = np.where(left > 0, (total - touched) / np.maximum(left, 1), np.nan)
    return _Term(float(total / n_pairs), without)
