"""The data set protocol of the trainer, a data set in memory, and the order of its batches.

Legend: b images, n images of the data set, c channels, h height, w width, l tokens, d text width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from xadapter.errors import SettingError


@dataclass(frozen=True)
class TrainBatch:
    """The same b pictures on both sides: scaled latents [b, c, h, w], base text [b, l, d]."""

    base_latents: Tensor
    upgraded_latents: Tensor
    base_text: Tensor


class LatentDataset(Protocol):
    """A source of training batches: a length, and a batch for int64 indices [b]."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> TrainBatch: ...


@dataclass(frozen=True)
class UpgradedText:
    """One text condition of the upgraded model: [1, l, d], [1, p] and [1, 6] (None: not SDXL)."""

    hidden: Tensor
    pooled: Tensor | None = None
    time_ids: Tensor | None = None


@dataclass(frozen=True)
class TensorDataset:
    """A `LatentDataset` of tensors in memory: latents [n, c, h, w], base text [n, l, d]."""

    base_latents: Tensor
    upgraded_latents: Tensor
    base_text: Tensor

    def __post_init__(self) -> None:
        sizes = {len(self.base_latents), len(self.upgraded_latents), len(self.base_text)}
        if len(sizes) != 1:
            raise SettingError(
                f"the parts of the data set differ in length: {len(self.base_latents)} base "
                f"latents, {len(self.upgraded_latents)} upgraded latents, {len(self.base_text)} "
                "texts"
            )

    def __len__(self) -> int:
        return len(self.base_latents)

    def batch(self, indices: Tensor) -> TrainBatch:
        """Return the images at `indices` [b]."""
        return TrainBatch(
            self.base_latents[indices], self.upgraded_latents[indices], self.base_text[indices]
        )


def generator_for(seed: int, *key: int) -> torch.Generator:
    """Return a CPU generator that depends on (seed, key) alone, so that no state needs saving."""
    # SeedSequence mixes all its words; `manual_seed` takes 63 bits
    word = np.random.SeedSequence([seed, *key]).generate_state(1, np.uint64)[0]
    return torch.Generator("cpu").manual_seed(int(word >> np.uint64(1)))


# first word of a key: draws of different use never share a generator
EPOCH_STREAM, STEP_STREAM, TABLE_STREAM = 0, 1, 2


def index_batches(n_images: int, batch_size: int, *, seed: int, first: int = 0) -> Iterator[Tensor]:
    """Yield endless batches of int64 indices [b] from batch `first` on; an epoch is a permutation.

    A batch may run over the end of an epoch. The sequence depends on the seed alone.
    """
    position = first * batch_size
    epoch, offset = divmod(position, n_images)
    order = _epoch_order(n_images, seed, epoch)
    while True:
        parts = []
        missing = batch_size
        while missing:
            taken = order[offset : offset + missing]
            parts.append(taken)
            missing -= len(taken)
            offset += len(taken)
            if offset == n_images:
                epoch, offset = epoch + 1, 0
                order = _epoch_order(n_images, seed, epoch)
        yield torch.cat(parts)


def _epoch_order(n_images: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n_images, generator=generator_for(seed, EPOCH_STREAM, epoch))
