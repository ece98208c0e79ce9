"""Checksums of tensors, to notice changes of what several methods share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass

import torch
from torch import Tensor

Checksum = tuple[int | tuple[str, int], ...]
_WORD, _N_BLOCKS, _IMAGE_DIMS = 8, 1024, 4
_JOINED_BYTES = 16 << 20
_FACTOR = 1_000_003  # between the sums of a device, so that their order matters


@torch.no_grad()
def checksum(tensors: Iterable[Tensor]) -> Checksum:
    """Return the number of bytes, and a sum per device that changes with any bit of one value.

    The bits are added up as integers, exactly; NaN is a value as any other. Blocks weigh by their
    place, so that an exchange is noticed. Small tensors are joined: one sum for many is faster.
    """
    sums: dict[str, int] = {}
    waiting: dict[str, list[Tensor]] = {}
    n_bytes = n_waiting = 0

    def add(device: str) -> None:
        joined = waiting.pop(device)
        total = _weighted_sum(joined[0] if len(joined) == 1 else torch.cat(joined))
        sums[device] = (sums.get(device, 0) * _FACTOR + int(total)) % 2**64

    for tensor in tensors:
        memory, device = _memory_of(tensor.detach()), str(tensor.device)
        n_bytes += memory.numel()
        n_waiting += memory.numel()
        waiting.setdefault(device, []).append(memory)
        if n_waiting > _JOINED_BYTES:
            add(device)
            n_waiting = 0
    for device in [*waiting]:
        add(device)
    return n_bytes, *sorted(sums.items())


def _weighted_sum(memory: Tensor) -> Tensor:
    """Return the sum of the words of 8 bytes, each block of them weighted by its place."""
    n_words = len(memory) // _WORD
    n_rows = max(1, min(_N_BLOCKS, n_words))
    n_used = n_words // n_rows * n_rows
    aligned = memory if memory.data_ptr() % _WORD == 0 else memory.clone()
    words = aligned[: n_used * _WORD].view(torch.int64).view(n_rows, -1)
    weights = torch.arange(1, n_rows + 1, device=memory.device)
    rest = memory[n_used * _WORD :].to(torch.int64)
    places = torch.arange(1, len(rest) + 1, device=memory.device)
    return (words.sum(dim=1) * weights).sum() + (rest * places).sum()


def _memory_of(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor in memory's order, as a view where the tensor is dense."""
    if not tensor.is_contiguous() and tensor.ndim == _IMAGE_DIMS:
        tensor = tensor.permute(0, 2, 3, 1)  # channels last
    return tensor.reshape(-1).view(torch.uint8)


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
