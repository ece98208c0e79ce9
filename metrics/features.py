"""Embeddings by encoder and content, so that metrics that share an encoder run it once per image.

Each image is encoded alone: a value never depends on the batch, the order, or a resume.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

EncodeImages = Callable[[list[np.ndarray]], np.ndarray]
EncodeTexts = Callable[[list[str]], np.ndarray]


class HashedPicture(Protocol):
    """A picture that is read when it is needed, and the hash that identifies it."""

    @property
    def image_sha256(self) -> str: ...
    @property
    def load_picture(self) -> Callable[[], np.ndarray]: ...


class FeatureCache:
    """Rows of features; `encoder` names the network and its weights."""

    def __init__(self) -> None:
        self._images: dict[tuple[str, str], np.ndarray] = {}
        self._texts: dict[tuple[str, str], np.ndarray] = {}

    def of_images(
        self, images: Sequence[HashedPicture], *, encoder: str, encode: EncodeImages
    ) -> np.ndarray:
        """Return features of images, N x D float64; `encode` takes a list of uint8 pictures."""
        for image in images:
            key = (encoder, image.image_sha256)
            if key not in self._images:
                self._images[key] = _row(encode([image.load_picture()]))
        return _stack([self._images[encoder, image.image_sha256] for image in images])

    def of_texts(self, texts: Sequence[str], *, encoder: str, encode: EncodeTexts) -> np.ndarray:
        """Return features of prompts, N x D float64."""
        for text in texts:
            if (encoder, text) not in self._texts:
                self._texts[encoder, text] = _row(encode([text]))
        return _stack([self._texts[encoder, text] for text in texts])


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to length 1, N x D."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def _row(encoded: np.ndarray) -> np.ndarray:
    row = np.array(encoded[0], np.float64)
    row.setflags(write=False)  # all metrics that share the encoder get it
    return row


def _stack(rows: list[np.ndarray]) -> np.ndarray:
    return np.stack(rows) if rows else np.zeros((0, 0))
