"""The shipped pocket scorer for the metrics: its hash without torch, its network on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from metrics.base import MetricUnavailableError, References
from metrics.features import HashedPicture
from pocket import weights

if TYPE_CHECKING:
    from pocket.scorer import Scorer

ScorerSource = Callable[[], "Scorer"]
HashSource = Callable[[], str]
NEEDS = ("pocket scorer (shipped)",)
# whose pictures show pocket scenes
POCKET_FAMILIES = ("pocket", "pocket-far", "pocket-flow", "pocket-near", "pocket-v")


@cache
def shipped_scorer() -> Scorer:
    """Return the shipped network, loaded once; MetricUnavailableError without its weights."""
    from pocket.scorer import load_scorer  # imports torch

    try:
        return load_scorer()
    except weights.WeightsError as error:
        raise MetricUnavailableError(str(error)) from error


def shipped_sha256(part: str = "scorer") -> str:
    """Return the recorded hash of a shipped part; MetricUnavailableError if there is none."""
    try:
        return weights.part_sha256(part)
    except weights.WeightsError as error:
        raise MetricUnavailableError(str(error)) from error


@dataclass(frozen=True)
class PocketScorer:
    """The scorer and its hash, which is known without loading the network."""

    scorer: ScorerSource = shipped_scorer
    scorer_sha256: HashSource = shipped_sha256
    needs: tuple[str, ...] = NEEDS
    words: str = " at 128 px"

    def name(self) -> str:
        """Return the scorer's name in recipes and in the feature cache."""
        return f"pocket-scorer {self.scorer_sha256()[:12]}"

    def recipe(self) -> str:
        """Return scorer and input; MetricUnavailableError if no hash was recorded."""
        return f"{self.name()}{self.words}"


@dataclass(frozen=True)
class PocketEncoder(PocketScorer):
    """The scorer's features, with the interface of `metrics.encoders.PairEncoder`."""

    title: str = "the pocket scorer"

    def rows(self, images: Sequence[HashedPicture], references: References) -> np.ndarray:
        """Return features of images, float64 [N, D]; each is encoded once in a run."""
        return references.features.of_images(images, encoder=self.name(), encode=self.encode)

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Return features of pictures, float64 [N, D], each picture encoded alone, on the CPU."""
        features = self.scorer().features
        return np.asarray([features([picture])[0] for picture in pictures], np.float64)

    def text_rows(self, texts: Sequence[str], references: References) -> np.ndarray:
        """Return features of texts, float64 [N, D]; each is encoded once in a run."""
        encode = self.scorer().encode_texts
        return references.features.of_texts(texts, encoder=self.name(), encode=encode)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return features of texts, float64 [N, D]."""
        return np.asarray(self.scorer().encode_texts(list(texts)), np.float64)


@dataclass(frozen=True)
class PocketMaps(PocketScorer):
    """LPIPS without learned weights (Zhang et al. 2018, eq. 1 with w_l = 1) on feature maps.

    Under a name of its own: the backbones of the lpips package have to be downloaded.
    """

    sizes: str = ""

    def recipe(self) -> str:
        """Return formula, layers, scorer and input."""
        return f"LPIPS eq. 1, w = 1, sum over stem and 4 stages; {super().recipe()}"

    def distances(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        """Return distances of pairs of uint8 pictures, each pair alone; 0 for equal ones."""
        return [self._distance(a, b) for a, b in pairs]

    def _distance(self, a: np.ndarray, b: np.ndarray) -> float:
        maps = ([unit_channels(m[0].numpy()) for m in self._maps(picture)] for picture in (a, b))
        # sum over layers of the mean over places of the squared difference of unit vectors
        return float(sum(((x - y) ** 2).sum(axis=0).mean() for x, y in zip(*maps, strict=True)))

    def _maps(self, picture: np.ndarray) -> Sequence:
        return self.scorer().feature_maps([picture])


def unit_channels(map_chw: np.ndarray) -> np.ndarray:
    """Return a feature map with unit length over its channels at each place, C x h x w."""
    return map_chw / (np.sqrt((map_chw**2).sum(axis=0, keepdims=True)) + 1e-10)
