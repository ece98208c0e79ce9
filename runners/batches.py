"""How many images the models take in one call: a group is rendered in parts of that size."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from runners.base import Batch, RenderCase, Variant
from runners.device import is_gpu
from runners.passes import SharedWork, Shares

_SHARE = 0.85  # of the free memory; the allocator needs the rest
_MOST = 1024  # of work that needs no memory that can be measured


@dataclass
class BatchSize:
    """The most images of one call, learned while a run goes on; one object for all its groups.

    `chosen` is a number, "auto" for what fits the device's memory, or None for a group's all. Any
    of them is halved where memory does not suffice. Work is a key: what needs equal memory. With
    `merges` a call has several variants where they fit: on a GPU, since pixels are then equal up to
    rounding only.
    """

    chosen: Batch = None
    merges: bool = False
    _most: dict[Hashable, int] = field(default_factory=dict)
    _image_bytes: dict[Hashable, int] = field(default_factory=dict)

    @classmethod
    def on(cls, device: str, chosen: Batch) -> BatchSize:
        """Return the size that was chosen; by default "auto" on a GPU, and all on a CPU."""
        merges = is_gpu(device)
        return cls("auto" if chosen is None and merges else chosen, merges)

    def most(self, work: Hashable, n_images: int) -> int | None:
        """Return the most images of one call; None if one image has to be measured first."""
        if work in self._most:
            return self._most[work]
        if self.chosen == "auto":
            return None
        return self.chosen or n_images

    def together(self, work: Hashable, n_images: int) -> int:
        """Return how many variants of so many images are in one call."""
        most = self.most(work, n_images) if self.merges else None
        return max(1, (most or 0) // n_images)

    def saw(self, work: Hashable, n_bytes: int) -> None:
        """Record the memory that one image took; the largest of all variants counts."""
        self._image_bytes[work] = max(n_bytes, self._image_bytes.get(work, 0))

    def measured(self, work: Hashable, *, free_bytes: int) -> int:
        """Double one image until the next doubling takes more than 85 % of the free memory."""
        n_images, image_bytes = 1, self._image_bytes.get(work, 0)
        while n_images < _MOST and 2 * n_images * image_bytes <= _SHARE * free_bytes:
            n_images *= 2
        # less where memory did not suffice meanwhile
        self._most[work] = min(n_images, self._most.get(work, n_images))
        return self._most[work]

    def too_many(self, work: Hashable, n_images: int) -> None:
        """Halve the size, after so many images did not fit."""
        self._most[work] = max(1, n_images // 2)


@dataclass(frozen=True, eq=False)
class Part:
    """Neighboring cases of a group that share a call, and their passes; `first` is an index.

    `shares` are the passes of each variant; `together` is the number of variants in a call.
    """

    first: int
    cases: tuple[RenderCase, ...]
    work: SharedWork
    shares: Mapping[Variant, Shares]
    together: int = 1


def slices(cases: Sequence[RenderCase], size: int) -> Iterator[tuple[int, tuple[RenderCase, ...]]]:
    """Yield consecutive cases, at most `size` at a time, with the index of the first."""
    for first in range(0, len(cases), size):
        yield first, tuple(cases[first : first + size])
