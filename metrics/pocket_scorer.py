"""The shipped pocket scorer for the metrics: its hash without torch, its network on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from metrics.base import MetricUnavailableError, References, ScoredImage
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


@dataclass(frozen=True)
class PocketEncoder:
    """The scorer's image features, with the interface of `metrics.encoders.Encoder`."""

    scorer: ScorerSource = shipped_scorer
    scorer_sha256: HashSource = shipped_sha256
    needs: tuple[str, ...] = NEEDS

    def recipe(self) -> str:
        """Scorer and input; MetricUnavailableError where its hash was never recorded."""
        return f"{encoder_name(self.scorer_sha256())} at 128 px"

    def rows(self, images: Sequence[ScoredImage], references: References) -> np.ndarray:
        """Features of images, float64 [N, D]; each is encoded once in a run."""
        name = encoder_name(self.scorer_sha256())
        return references.features.of_images(images, encoder=name, encode=self.scorer().features)

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Features of pictures, float64 [N, D]."""
        return np.asarray(self.scorer().features(list(pictures)), np.float64)
