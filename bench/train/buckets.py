"""Buckets of pictures by aspect ratio, and which bucket each step takes.

The ratios are those of SDXL (Podell et al., arXiv 2307.01952, appendix I; the nine that are used
for sampling), at the recipe's size; the base side has half of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from xadapter.data import generator_for

# width and height in px at the size 1024
_SHAPES_1024 = (
    *((1024, 1024), (1152, 896), (896, 1152), (1216, 832), (832, 1216)),
    *((1344, 768), (768, 1344), (1536, 640), (640, 1536)),
)
_BUCKET_STREAM = 5  # first word of the keys of draws
Bucket = tuple[int, int]


def buckets_for(size_px: int, step_px: int) -> tuple[Bucket, ...]:
    """Return (width, height) of the buckets: the square first, sides are multiples of `step_px`.

    None has more pixels than the square, which bounds the memory of a step.
    """
    found: dict[Bucket, None] = {(size_px, size_px): None}
    for shape in _SHAPES_1024[1:]:
        found[_rounded(shape, size_px, step_px)] = None
    return tuple(found)


def step_px(n_levels: int, pixels_per_latent: int = 8) -> int:
    """Return the step of the sides for an upgraded UNet of so many levels: 64 px for SDXL."""
    return pixels_per_latent * 2 * 2 ** (n_levels - 1)


def _rounded(shape: Bucket, size_px: int, step_px: int) -> Bucket:
    """Return the nearest size of whole steps, by the logarithms of its sides."""
    ideal = [side * size_px / 1024 for side in shape]
    sides = [
        [n * step_px for n in (math.floor(side / step_px), math.ceil(side / step_px)) if n]
        for side in ideal
    ]
    fitting = [(w, h) for w in sides[0] for h in sides[1] if w * h <= size_px**2]

    def distance(size: Bucket) -> float:
        return sum(math.log(a / b) ** 2 for a, b in zip(size, ideal, strict=True))

    return min(fitting, key=distance, default=(size_px, size_px))


def nearest_bucket(width: int, height: int, buckets: Sequence[Bucket]) -> int:
    """Return the index of the bucket whose aspect ratio is nearest, by its logarithm."""
    ratio = math.log(width / height)
    distances = [abs(ratio - math.log(w / h)) for w, h in buckets]
    return distances.index(min(distances))


class BucketOrder:
    """Which bucket a step takes its batch of, and for how many times: a function of the seed.

    Each bucket gets steps in proportion to its pictures: the next step is that of the bucket that
    is furthest behind. Within the steps of an epoch their order is shuffled.
    """

    def __init__(self, counts: Sequence[int], batch: int, seed: int) -> None:
        self._shares = np.array(counts) / sum(counts)
        self._n_epoch = max(1, math.ceil(sum(counts) / batch))
        self._seed = seed
        self._taken = np.zeros(len(counts), dtype=np.int64)
        self._steps: list[tuple[int, int]] = []  # bucket, and how often it was taken before

    def at(self, step: int) -> tuple[int, int]:
        """Return the bucket of a step, and the number of earlier steps that took it."""
        while len(self._steps) <= step:
            self._add_epoch()
        return self._steps[step]

    def _add_epoch(self) -> None:
        first, counts = len(self._steps), self._taken.copy()
        chosen = []
        for step in range(first + 1, first + self._n_epoch + 1):
            bucket = int(np.argmax(self._shares * step - counts))
            counts[bucket] += 1
            chosen.append(bucket)
        generator = generator_for(self._seed, _BUCKET_STREAM, first // self._n_epoch)
        order = np.random.default_rng(generator.initial_seed()).permutation(len(chosen))
        for bucket in (chosen[i] for i in order):
            self._steps.append((bucket, int(self._taken[bucket])))
            self._taken[bucket] += 1
