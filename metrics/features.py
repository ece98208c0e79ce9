"""Embeddings by encoder and content, so that metrics that share an encoder run it once per image.

Images are encoded one by one unless the caller states how many go at once, so a value does not
depend on the batch, the order, or a resume.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Protocol, TypeVar

import numpy as np

EncodeImages = Callable[[list[np.ndarray]], np.ndarray]
EncodeTexts = Callable[[list[str]], np.ndarray]
DetectAll = Callable[[list[np.ndarray]], Sequence[np.ndarray]]
MEMORY_BYTES = 512 << 20
T = TypeVar("T")
_Key = tuple[str, str]


class HashedPicture(Protocol):
    """A picture that is read when it is needed, and the hash that identifies it."""

    @property
    def image_sha256(self) -> str: ...
    @property
    def load_picture(self) -> Callable[[], np.ndarray]: ...


class FeatureCache:
    """Rows of features; `encoder` names the network and its weights.

    No row is computed twice: those beyond `memory_bytes` are in a temporary file. Maps, which
    detectors find, are as large as pictures: all are dropped when they exceed `memory_bytes`.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._images = _Rows(memory_bytes)
        self._texts: dict[_Key, np.ndarray] = {}
        self._maps: dict[_Key, np.ndarray] = {}
        self._memory_bytes = memory_bytes

    def of_images(
        self,
        images: Sequence[HashedPicture],
        *,
        encoder: str,
        encode: EncodeImages,
        at_once: int = 1,
    ) -> np.ndarray:
        """Return features of images, N x D float64; `encode` takes a list of uint8 pictures."""
        missing = {
            i.image_sha256: i for i in images if (encoder, i.image_sha256) not in self._images
        }
        for part in _parts(missing, at_once):
            encoded = encode([image.load_picture() for image in part.values()])
            rows = dict(zip(part, encoded, strict=True))
            self.add_rows(encoder, rows)
        return _stack([self._images.get((encoder, image.image_sha256)) for image in images])

    def add_rows(self, encoder: str, rows: Mapping[str, np.ndarray]) -> None:
        """Keep features that were computed elsewhere, by the images' sha256."""
        for sha256, row in rows.items():
            self._images.add((encoder, sha256), np.array(row, np.float64))

    def rows_since(self, n: int) -> dict[str, dict[str, np.ndarray]]:
        """Return encoder -> sha256 -> row, without the first `n` rows that were added."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for encoder, sha256 in self._images.keys()[n:]:
            found.setdefault(encoder, {})[sha256] = self._images.get((encoder, sha256))
        return found

    def __len__(self) -> int:
        """Return the number of rows of images."""
        return len(self._images.keys())

    def of_texts(self, texts: Sequence[str], *, encoder: str, encode: EncodeTexts) -> np.ndarray:
        """Return features of prompts, N x D float64."""
        for text in texts:
            if (encoder, text) not in self._texts:
                self._texts[encoder, text] = _read_only(np.array(encode([text])[0], np.float64))
        return _stack([self._texts[encoder, text] for text in texts])

    def maps_of(
        self,
        images: Sequence[HashedPicture],
        *,
        detector: str,
        detect: DetectAll,
        at_once: int = 1,
    ) -> list[np.ndarray]:
        """Return what a detector finds in images; metrics that take turns on them share it."""
        known = {i.image_sha256: self._maps.get((detector, i.image_sha256)) for i in images}
        found = {sha256: one for sha256, one in known.items() if one is not None}
        missing = {i.image_sha256: i for i in images if i.image_sha256 not in found}
        for part in _parts(missing, at_once):
            maps = detect([image.load_picture() for image in part.values()])
            found |= {sha256: _read_only(one) for sha256, one in zip(part, maps, strict=True)}
        if sum(one.nbytes for one in (*self._maps.values(), *found.values())) > self._memory_bytes:
            self._maps.clear()
        self._maps |= {(detector, sha256): one for sha256, one in found.items()}
        return [found[image.image_sha256] for image in images]


class _Rows:
    """Arrays by key, in the order in which they came; in a temporary file beyond a size."""

    def __init__(self, memory_bytes: int) -> None:
        self._left_bytes = memory_bytes
        self._held: dict[_Key, np.ndarray | int] = {}  # an array, or where it begins in the file
        self._lengths: dict[_Key, int] = {}
        self._file: IO[bytes] | None = None

    def __contains__(self, key: _Key) -> bool:
        return key in self._held

    def keys(self) -> list[_Key]:
        return [*self._held]

    def add(self, key: _Key, row: np.ndarray) -> None:
        if key in self._held:
            return
        self._left_bytes -= row.nbytes
        if self._left_bytes >= 0:
            self._held[key] = _read_only(row)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed with the cache)
            weakref.finalize(self, self._file.close)
        start = self._file.seek(0, 2)
        self._file.write(row.tobytes())
        self._held[key], self._lengths[key] = start, row.size

    def get(self, key: _Key) -> np.ndarray:
        held = self._held[key]
        if isinstance(held, np.ndarray):
            return held
        assert self._file is not None
        self._file.seek(held)
        return np.frombuffer(self._file.read(8 * self._lengths[key]), np.float64)


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to length 1, N x D."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def _parts(images: Mapping[str, T], n: int) -> Iterator[dict[str, T]]:
    """Yield the items, `n` at a time."""
    items = [*images.items()]
    for start in range(0, len(items), n):
        yield dict(items[start : start + n])


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)  # all metrics that share the encoder get it
    return array


def _stack(rows: list[np.ndarray]) -> np.ndarray:
    return np.stack(rows) if rows else np.zeros((0, 0))
