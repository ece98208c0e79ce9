"""The data set protocols of the trainer, and the order of batches.

Legend: b images, n images of the data set, c channels, h height, w width, l tokens, d text width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class UpgradedText:
    """Text conditions of the upgraded model: [b, l, d], [b, p] and [b, 6] (None: not SDXL).

    One row (b = 1) serves all images of a batch.
    """

    hidden: Tensor
    pooled: Tensor | None = None
    time_ids: Tensor | None = None


@dataclass(frozen=True)
class TrainBatch:
    """The same b pictures on both sides: scaled latents [b, c, h, w], base text [b, l, d].

    `upgraded_text` are the prompts for the upgraded model, needed where it is trained with them.
    `time_ids` [b, 6] are the sizes of pictures that are not of the null text's size.
    """

    base_latents: Tensor
    upgraded_latents: Tensor
    base_text: Tensor
    upgraded_text: UpgradedText | None = None
    time_ids: Tensor | None = None


class LatentDataset(Protocol):
    """A source of training batches: a length, and a batch for int64 indices [b]."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> TrainBatch: ...


@runtime_checkable
class TrainingData(Protocol):
    """Batches of a run, each a pure function of its step: any process can make any part of it.

    The images of one step have one size. A source of pictures encodes them itself.
    """

    def batch_at(self, step: int, rows: range, n_images: int) -> TrainBatch:
        """Return the images `rows` of the `n_images` that step 0, 1, ... has on all processes."""
        ...

    def sample(self, n_images: int, generator: torch.Generator) -> TrainBatch:
        """Return images of one size to measure the typical losses on."""
        ...


def generator_for(seed: int, *key: int) -> torch.Generator:
    """Return a CPU generator that depends on (seed, key) alone, so that no state needs saving."""
    # SeedSequence mixes all its words; `manual_seed` takes 63 bits
    word = np.random.SeedSequence([seed, *key]).generate_state(1, np.uint64)[0]
    return torch.Generator("cpu").manual_seed(int(word >> np.uint64(1)))


# first word of a key: draws of different use never share a generator
EPOCH_STREAM, STEP_STREAM, TABLE_STREAM = 0, 1, 2


@dataclass(frozen=True)
class Shuffled:
    """`TrainingData` of a data set: every epoch is a permutation that depends on the seed alone.

    A step may run over the end of an epoch.
    """

    dataset: LatentDataset
    seed: int

    def batch_at(self, step: int, rows: range, n_images: int) -> TrainBatch:
        """Return the images `rows` of a step of `n_images` images."""
        first = step * n_images
        positions = range(first + rows.start, first + rows.stop)
        return self.dataset.batch(indices_at(positions, len(self.dataset), seed=self.seed))

    def sample(self, n_images: int, generator: torch.Generator) -> TrainBatch:
        """Return random images."""
        return self.dataset.batch(torch.randperm(len(self.dataset), generator=generator)[:n_images])


def indices_at(positions: range, n_images: int, *, seed: int) -> Tensor:
    """Return the int64 indices at some positions of the endless sequence of shuffled epochs."""
    parts, position = [], positions.start
    while position < positions.stop:
        epoch, offset = divmod(position, n_images)
        taken = _epoch_order(n_images, seed, epoch)[offset : offset + positions.stop - position]
        parts.append(taken)
        position += len(taken)
    return torch.cat(parts)


@lru_cache(maxsize=32)  # of data sets that a run takes turns with
def _epoch_order(n_images: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n_images, generator=generator_for(seed, EPOCH_STREAM, epoch))
