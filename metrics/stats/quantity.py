"""Means and set scores with the contribution of each prompt, so that resampling can be joint."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metrics.stats.intervals import Statistic

Pairs = Mapping[tuple[str, int], float]  # (case id, seed) -> image score


@dataclass(frozen=True)
class Quantity:
    """One arm's mean or set score, and the contribution of each prompt.

    `sums` and `counts` are by prompt name; weighting prompts by w gives sum(w s) / sum(w c), which
    is `value` where all weights are equal.
    """

    value: float
    sums: Mapping[str, float]
    counts: Mapping[str, float]
    n: int


def image_quantities(*arms: Pairs, cluster_of: Mapping[str, str]) -> tuple[Quantity, ...]:
    """Return means of image scores over the (case, seed) pairs that all arms share."""
    shared = sorted(set.intersection(*(set(arm) for arm in arms))) if arms else []
    return tuple(
        _mean([(cluster_of[case], arm[case, seed]) for case, seed in shared]) for arm in arms
    )


def set_quantity(value: float, left_out: Mapping[str, float], *, n: int) -> Quantity:
    """Return a set score with the parts of its prompts, of its leave-one-out values."""
    parts = pseudo_values(value, left_out)
    return Quantity(value, parts, dict.fromkeys(parts, 1.0), n)


def pseudo_values(value: float, left_out: Mapping[str, float]) -> dict[str, float]:
    """Return each prompt's part in a set score: jackknife pseudo-values (Tukey 1958) around it.

    They are shifted so that their mean is the score. Unshifted, their mean has the jackknife's
    estimate of bias taken off, which is 0 for kernel distances and mere noise for a score that is
    clipped, such as the distance to a segment: a test would contradict the interval, which is
    around the score.
    """
    mean = sum(left_out.values()) / len(left_out) if left_out else 0.0
    # P t - (P - 1) t_without, less their mean, plus t
    return {name: value - (len(left_out) - 1) * (left - mean) for name, left in left_out.items()}


def restricted(quantity: Quantity, prompts: Collection[str]) -> Quantity:
    """Return a quantity over some of its prompts: of a set score, by its pseudo-values.

    Raises ValueError where it has none of them.
    """
    sums = {name: part for name, part in quantity.sums.items() if name in prompts}
    if not sums:
        raise ValueError("none of these prompts was measured")
    counts = {name: quantity.counts[name] for name in sums}
    value = sum(sums.values()) / sum(counts.values())
    n = round(quantity.n * sum(counts.values()) / sum(quantity.counts.values()))
    return Quantity(value, sums, counts, n)


def _mean(values: Sequence[tuple[str, float]]) -> Quantity:
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for name, value in values:
        sums[name] = sums.get(name, 0.0) + value
        counts[name] = counts.get(name, 0.0) + 1
    mean = sum(sums.values()) / len(values) if values else float("nan")
    return Quantity(mean, sums, counts, len(values))


def shared_prompts(quantities: Sequence[Quantity]) -> list[str] | None:
    """Return the prompts that all quantities share in the same order; None if they differ."""
    first = quantities[0].sums.keys()
    return None if any(q.sums.keys() != first for q in quantities) else sorted(first)


def weighted(quantity: Quantity, names: Sequence[str]) -> Statistic:
    """Return the quantity as a function of its prompts' weights, in the order of `names`."""
    sums = np.array([quantity.sums[name] for name in names])
    counts = np.array([quantity.counts[name] for name in names])

    def statistic(weights: np.ndarray) -> np.ndarray:
        return (weights @ sums) / (weights @ counts)

    return statistic
