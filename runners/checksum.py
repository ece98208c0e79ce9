"""Checksums of tensors, to notice changes of what several methods share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

Checksum = tuple[int | tuple[str, int], ...]
_KINDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@torch.no_grad()
def checksum(tensors: Iterable[Tensor]) -> Checksum:
    """Return the number of values, and a sum per device that changes with any bit of one value.

    The bits are added up as integers, exactly and in any order; NaN is a value as any other. Rows
    (of the first dimension) and tensors weigh by their place, so that an exchange is noticed.
    """
    sums: dict[str, Tensor] = {}
    n_values = 0
    for place, tensor in enumerate(tensors, start=1):
        n_values += tensor.numel()
        if tensor.numel():
            key, total = str(tensor.device), _weighted_sum(tensor.detach()) * place
            sums[key] = sums[key] + total if key in sums else total
    return n_values, *((key, int(value)) for key, value in sorted(sums.items()))


def _weighted_sum(tensor: Tensor) -> Tensor:
    is_bool = tensor.dtype == torch.bool
    bits = tensor if is_bool else tensor.view(_KINDS[tensor.element_size()])
    if bits.ndim == 0:
        return bits.to(torch.int64)
    rows = bits.sum(dim=tuple(range(1, bits.ndim)), dtype=torch.int64) if bits.ndim > 1 else bits
    weights = torch.arange(1, len(rows) + 1, device=rows.device)
    return (rows.to(torch.int64) * weights).sum()


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yield the tensors of a result: of dataclasses, mappings, lists and tuples of them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors_in(getattr(value, field.name))
