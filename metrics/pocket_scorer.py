"""The shipped pocket scorer for the metrics: its hash without torch, its network on demand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from metrics.base import MetricUnavailableError
from pocket import weights

if TYPE_CHECKING:
    from pocket.scorer import Scorer

ScorerSource = Callable[[], "Scorer"]
HashSource = Callable[[], str]
NEEDS = ("pocket scorer (shipped)",)


@cache
def shipped_scorer() -> Scorer:
    """The shipped network, loaded once; MetricUnavailableError where its weights are missing."""
    from pocket.scorer import load_scorer  # imports torch

    try:
        return load_scorer()
    except weights.WeightsError as error:
        raise MetricUnavailableError(str(error)) from error


def shipped_sha256(part: str = "scorer") -> str:
    """Recorded hash of a shipped part; MetricUnavailableError where it was never recorded."""
    try:
        return weights.part_sha256(part)
    except weights.WeightsError as error:
        raise MetricUnavailableError(str(error)) from error


def encoder_name(sha256: str) -> str:
    """How recipes and the feature cache call the scorer."""
    return f"pocket-scorer {sha256[:12]}"
