"""What a mapper returns, and how it changes the upgraded model's features at each site.

Signals are a flat sequence of tensors whose first dimension are the rows of a call, so that rows of
several trials can be joined and split. A mapper without a method `change` returns one offset for
each site, which is added (X-Adapter, arXiv 2312.02238, equation 3). With `change(i, h, signals)`
(ours) site i becomes h + scale * change: nothing is changed at scale 0, whatever the mapper is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Signals = tuple[Tensor, ...]
# site's index, its features [b, c, h, w], the mapper's signals -> the change [b, c, h, w]
Change = Callable[[int, Tensor, Sequence[Tensor]], Tensor]


def change_of(mapper: nn.Module) -> Change | None:
    """Return how a mapper's signals change a site's features; None where they are offsets."""
    found: Any = getattr(mapper, "change", None)
    return found


def mapped(mapper: nn.Module, features: Sequence[Tensor], timestep: Tensor) -> Signals:
    """Return a mapper's signals of features [b, ...]; `timestep` is that of all rows, or [b]."""
    if not getattr(mapper, "takes_time", False):
        return tuple(mapper(features))
    rows = timestep.to(features[0].device).reshape(-1).expand(len(features[0]))
    return tuple(mapper(features, rows))


def scaled(mapper: nn.Module, signals: Signals, scale: float) -> Signals:
    """Return signals of which `scale` is applied: scaled offsets, or scales [b] as the last one."""
    if change_of(mapper) is not None:
        return (*signals, signals[0].new_full((len(signals[0]),), scale))
    return signals if scale == 1.0 else tuple(offset * scale for offset in signals)


def weights_dtype(mapper: nn.Module) -> torch.dtype:
    """Return the dtype of a mapper's weights; float32 without any."""
    return next((weight.dtype for weight in mapper.parameters()), torch.float32)
