"""Intervals, tests and decisions over prompts."""

from metrics.stats.intervals import (
    MIN_CLUSTERS,
    Estimate,
    clustered_mean,
    holm,
    paired_difference,
)
from metrics.stats.preference import Comparisons, Ranking, rank_methods
from metrics.stats.ratio import NO_EFFECT, pareto_front

__all__ = [
    "MIN_CLUSTERS",
    "NO_EFFECT",
    "Comparisons",
    "Estimate",
    "Ranking",
    "clustered_mean",
    "holm",
    "paired_difference",
    "pareto_front",
    "rank_methods",
]
