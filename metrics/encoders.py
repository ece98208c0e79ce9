"""Networks that turn a picture into a row of features, identified by weights, input and device.

Each is a module of `metrics.networks`, imported (with torch) when the first picture is encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from metrics.base import Metric, MetricUnavailableError, References
from metrics.device import arithmetic, batch_size, device_name, in_batches
from metrics.features import HashedPicture
from metrics.weights import Weights, catalog


class RowSource(Protocol):
    """A network that turns images into rows of features [N, D]."""

    @property
    def needs(self) -> tuple[str, ...]: ...
    def recipe(self) -> str: ...
    def rows(self, images: Sequence[HashedPicture], references: References) -> np.ndarray: ...
    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray: ...


class PairSource(RowSource, Protocol):
    """A network that turns texts into rows of the same space, too."""

    @property
    def title(self) -> str: ...
    def text_rows(self, texts: Sequence[str], references: References) -> np.ndarray: ...
    def encode_texts(self, texts: Sequence[str]) -> np.ndarray: ...


def encoders_of(metric: Metric) -> tuple[RowSource, ...]:
    """Return the networks whose rows are all that a metric takes from pictures; () if unknown.

    They are its optional attribute `encoders`; each is hashable.
    """
    return getattr(metric, "encoders", ())


@dataclass(frozen=True)
class Network:
    """A published network; `module` of metrics.networks defines `load(weights, variant)`."""

    module: str
    weights: Weights
    words: str
    variant: str = ""

    @property
    def title(self) -> str:
        """Return the network's name for readers."""
        return self.weights.title

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of its weights in the catalog."""
        return (self.weights.name,)

    def recipe(self) -> str:
        """Return network, sha256 of its weights, input, device kind, dtype and batch size.

        Raises MetricUnavailableError where the weights are missing.
        """
        variant = f" {self.variant}" if self.variant else ""
        name = f"{self.title}{variant} {self.weights.sha256()}"
        return f"{name}, {self.words}, {arithmetic()}"

    def loaded(self) -> Any:
        """Return the network, loaded once; raise MetricUnavailableError without its weights."""
        sha256 = self.weights.sha256()
        return _load(self, str(self.weights.folder), device_name(), sha256)


@dataclass(frozen=True)
class Encoder(Network):
    """A network whose `encode` turns uint8 pictures [H, W, 3] into rows [N, D]."""

    def rows(self, images: Sequence[HashedPicture], references: References) -> np.ndarray:
        """Return features of images, float64 [N, D]; each is encoded once in a run."""
        return references.features.of_images(
            images, encoder=self._key(), encode=self.encode, at_once=batch_size()
        )

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Return features of pictures, float64 [N, D], in the device's batches."""
        return np.asarray(in_batches(self.loaded().encode, pictures), np.float64)

    def _key(self) -> str:
        return f"{self.module}: {self.recipe()}"


@dataclass(frozen=True)
class PairEncoder(Encoder):
    """An encoder of pictures that encodes texts into the same space."""

    def text_rows(self, texts: Sequence[str], references: References) -> np.ndarray:
        """Return features of texts, float64 [N, D]; each is encoded once in a run."""
        encode = self.encode_texts
        return references.features.of_texts(texts, encoder=self._key(), encode=encode)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return features of texts, float64 [N, D]."""
        return np.asarray(self.loaded().encode_texts(texts), np.float64)


@cache
def _load(network: Network, folder: str, device: str, sha256: str) -> Any:
    """Load a network; the arguments but the first are here as parts of the cache's key."""
    module = import_module(f"metrics.networks.{network.module}")
    loaded = module.load(network.weights, network.variant)
    if network.weights.sha256() != sha256:
        raise MetricUnavailableError(
            f"the weights {network.title} changed while they were loaded: score again"
        )
    return loaded


_PREPROCESS = "open_clip's resize and center crop"
CLIP = PairEncoder("open_clip_pair", catalog.CLIP_L14, _PREPROCESS, "ViT-L-14-quickgelu")
CLIP_336 = PairEncoder(
    "open_clip_pair", catalog.CLIP_L14_336, _PREPROCESS, "ViT-L-14-336-quickgelu"
)
HPS = PairEncoder("open_clip_pair", catalog.HPSV2, _PREPROCESS, "ViT-H-14")
INCEPTION = Encoder(
    "inception", catalog.INCEPTION, "pool of 2048, 299 px clean-fid resize, (x - 128) / 128"
)
DINOV2 = Encoder(
    "dinov2", catalog.DINOV2_L, "class token, 224 px clean-fid resize, ImageNet's mean and std"
)
CSD = Encoder("csd", catalog.CSD, "style head, 224 px bicubic on the short side, center crop")
GRAM = Encoder(
    "vgg", catalog.VGG16, "Gram matrices of relu1_2, relu2_2, relu3_3, 256 px clean-fid resize"
)
