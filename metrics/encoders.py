"""Networks that turn a picture into a row of features, named by weights, input and device.

A module of `metrics.networks` holds each; it is imported with torch when the first picture comes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from metrics.base import References, ScoredImage
from metrics.weights import catalog
from metrics.weights.files import Weights

DEVICE_VARIABLE = "XBENCH_METRIC_DEVICE"


class RowSource(Protocol):
    """What turns images into features and says what it wants and how it does it."""

    @property
    def needs(self) -> tuple[str, ...]: ...
    def recipe(self) -> str: ...
    def rows(self, images: Sequence[ScoredImage], references: References) -> np.ndarray: ...
    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray: ...


def device_name() -> str:
    """Where networks run: `XBENCH_METRIC_DEVICE`, else the CPU. Its kind shifts numbers."""
    return os.environ.get(DEVICE_VARIABLE) or "cpu"


def arithmetic() -> str:
    """The words of a recipe for what computes: device kind, dtype, batch size."""
    return f"float32 on {device_name().partition(':')[0]}, one picture at a time"


@dataclass(frozen=True)
class Network:
    """A published network; `module` of metrics.networks has `load(weights, variant)`."""

    module: str
    weights: Weights
    words: str
    variant: str = ""

    def recipe(self) -> str:
        """Network, sha256 of its weights, input and arithmetic; loads no torch.

        Raises MetricUnavailableError where the weights are missing.
        """
        return f"{self.name()}, {self.words}, {arithmetic()}"

    def name(self) -> str:
        """How the feature cache calls the network with its weights, input and device."""
        variant = f" {self.variant}" if self.variant else ""
        return f"{self.weights.title}{variant} {self.weights.sha256()}"

    def loaded(self) -> Any:
        """The network, loaded once; MetricUnavailableError where its weights are missing."""
        self.weights.sha256()
        return _load(self, str(self.weights.folder), device_name())


@dataclass(frozen=True)
class Encoder(Network):
    """A network whose `encode` takes a uint8 picture [H, W, 3] and gives a row [D]."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The weights."""
        return (self.weights.name,)

    def rows(self, images: Sequence[ScoredImage], references: References) -> np.ndarray:
        """Features of images, float64 [N, D]; each is encoded once in a run."""
        return references.features.of_images(images, encoder=self._key(), encode=self.encode)

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Features of pictures, float64 [N, D], each picture alone."""
        network = self.loaded()
        return np.stack([np.asarray(network.encode(p), np.float64) for p in pictures])

    def _key(self) -> str:
        return f"{self.module}: {self.recipe()}"


@dataclass(frozen=True)
class PairEncoder(Encoder):
    """An encoder of pictures that encodes texts into the same space."""

    def text_rows(self, texts: Sequence[str], references: References) -> np.ndarray:
        """Features of texts, float64 [N, D]; each is encoded once in a run."""
        return references.features.of_texts(
            texts, encoder=self._key(), encode=lambda batch: self.loaded().encode_texts(batch)
        )


@cache
def _load(network: Network, folder: str, device: str) -> Any:
    """`folder` and `device` only tell loads from different places apart."""
    module = import_module(f"metrics.networks.{network.module}")
    return module.load(network.weights, network.variant)


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
