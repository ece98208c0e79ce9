"""How far raters agree: Krippendorff's alpha, 1 for full agreement and 0 for what chance gives.

Krippendorff, Content Analysis (4th edition, 2019), chapter 12; computed by the `krippendorff`
package. The interval draws whole prompts, as all of this project's intervals do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from metrics.stats.intervals import MIN_CLUSTERS, Estimate

N_DRAWS = 500
Level = Literal["nominal", "ordinal"]


def agreement(
    units: Sequence[str],
    answers: Sequence[str | int],
    prompts: Sequence[str],
    *,
    domain: Sequence[str | int],
    level: Level,
    seed: int = 0,
) -> Estimate:
    """Return alpha of answers to the same units; `n` counts units with two answers or more.

    One entry an answer: its unit, its value (one of `domain`, in order where the level is
    ordinal) and the unit's prompt. Units with one answer do not count.
    """
    counts, cluster_of_unit = _count(units, answers, prompts, domain)
    paired = counts.sum(1) >= 2  # pairable values: units with two answers or more
    counts, clusters = counts[paired], cluster_of_unit[paired]
    names, place = np.unique(clusters, return_inverse=True)
    n_units, n_clusters = len(counts), len(names)
    value = _alpha(counts, level)
    if value is None:
        reason = "no unit has two answers" if not n_units else "all answers are equal"
        return Estimate(None, None, None, n_units, n_clusters, reason)
    if n_clusters < MIN_CLUSTERS:
        reason = f"{n_clusters} prompts are too few for an interval (at least {MIN_CLUSTERS})"
        return Estimate(value, None, None, n_units, n_clusters, reason)
    # cluster bootstrap: prompts are drawn with replacement, each with all of its units
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(place == c) for c in range(n_clusters)]
    drawn = [
        _alpha(counts[np.concatenate([members[c] for c in draw])], level)
        for draw in rng.integers(0, n_clusters, (N_DRAWS, n_clusters))
    ]
    # percentile interval; draws in which one value is left have no alpha
    low, high = np.quantile([alpha for alpha in drawn if alpha is not None], [0.025, 0.975])
    return Estimate(value, float(low), float(high), n_units, n_clusters)


def _count(
    units: Sequence[str],
    answers: Sequence[str | int],
    prompts: Sequence[str],
    domain: Sequence[str | int],
) -> tuple[np.ndarray, np.ndarray]:
    """Count the raters by unit and value [U, V]; return each unit's prompt [U], too."""
    place = {value: v for v, value in enumerate(domain)}
    rows: dict[str, np.ndarray] = {}
    prompt_of: dict[str, str] = {}
    for unit, answer, prompt in zip(units, answers, prompts, strict=True):
        rows.setdefault(unit, np.zeros(len(domain)))[place[answer]] += 1
        prompt_of[unit] = prompt
    counts = np.array(list(rows.values())).reshape(-1, len(domain))
    return counts, np.array([prompt_of[unit] for unit in rows], dtype=str)


def _alpha(counts: np.ndarray, level: Level) -> float | None:
    """Return alpha; None where it is not defined: fewer than two values in use."""
    if (counts.sum(0) > 0).sum() < 2:
        return None
    from krippendorff import alpha

    return float(alpha(value_counts=counts, level_of_measurement=level))
