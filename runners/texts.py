"""Encoded prompts, kept for the next groups of a run: most plugins do not change a text encoder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

from runners.checksum import tensors_in
from runners.families.family import Pipeline
from xadapter.denoiser import Conditions

_MOST_BYTES = 256 << 20
_KEPT: WeakKeyDictionary[Pipeline, OrderedDict[Hashable, Conditions]] = WeakKeyDictionary()


def encoded_once(pipe: Pipeline, reading: Hashable, encode: Callable[[], Conditions]) -> Conditions:
    """Return the text of a prompt, as it was read before by a pipeline's own text encoders.

    `reading` is everything that decides it. The texts that were not used for longest are dropped
    where all of a pipeline take more than 256 MiB.
    """
    kept = _KEPT.setdefault(pipe, OrderedDict())
    if reading not in kept:
        kept[reading] = encode()
        while len(kept) > 1 and sum(map(_n_bytes, kept.values())) > _MOST_BYTES:
            kept.popitem(last=False)
    kept.move_to_end(reading)
    return kept[reading]


def _n_bytes(text: Conditions) -> int:
    return sum(tensor.nbytes for tensor in tensors_in(text))
