"""Processes that train together: who takes which images, and sums over all of them.

Gradients are sums over the images of a step, added in a fixed order of buckets instead of DDP's
order of arrival, so that a resumed run adds the same numbers in the same order. Accelerate starts
and joins the processes; `torch.distributed` adds (NCCL on GPUs, gloo on CPUs).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from plugins_manifest.errors import UserError
from xadapter.errors import SettingError, TrainingFolderError, XAdapterError
from xadapter.launched import is_launched

T = TypeVar("T")
_BUCKET = 25_000_000  # numbers that are added in one call
_PATIENCE = timedelta(hours=2)  # the others wait while one validates


@dataclass(frozen=True)
class Processes:
    """This process among `count`; rank 0 writes files. One process is the default."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """True for the process that writes."""
        return self.rank == 0

    def rows_of(self, rows: range) -> range:
        """Return this process's part of the images of a batch, in their order."""
        n_each, rest = divmod(len(rows), self.count)
        if rest:
            raise SettingError(
                f"a batch of {len(rows)} images cannot be divided among {self.count} processes: "
                f"use a multiple of {self.count}"
            )
        return rows[self.rank * n_each : (self.rank + 1) * n_each]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all processes, bucket by bucket in their order."""
        if self.count == 1:
            return
        with _peers():
            for bucket in _buckets(tensors):
                flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
                dist.all_reduce(flat)
                parts = flat.split([tensor.numel() for tensor in bucket])
                for tensor, part in zip(bucket, parts, strict=True):
                    tensor.copy_(part.view_as(tensor))

    def copy_from_main(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of rank 0."""
        if self.count == 1:
            return
        with _peers():
            for tensor in tensors:
                # a dense copy: collectives take no channels-last memory
                dense = tensor.detach().to(self.device).contiguous()
                dist.broadcast(dense, src=0)
                tensor.detach().copy_(dense)

    def agree(self, value: T) -> T:
        """Return the value of rank 0, which may be any small object; waits for all processes."""
        if self.count == 1:
            return value
        values: list[Any] = [value]
        with _peers():
            dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def on_main(self, action: Callable[[], Any]) -> None:
        """Do something on rank 0; raise its error on all processes, so that none waits for it."""
        error: Exception | None = None
        if self.is_main:
            try:
                action()
            except (XAdapterError, UserError, OSError) as found:
                error = found
                if self.count == 1:
                    raise
        if (error := self.agree(error)) is not None:
            raise error


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    n = 0
    for tensor in tensors:
        if bucket and n + tensor.numel() > _BUCKET:
            yield bucket
            bucket, n = [], 0
        bucket.append(tensor)
        n += tensor.numel()
    if bucket:
        yield bucket


@contextmanager
def _peers() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL: the connection was closed, or timed out
        raise TrainingFolderError(
            "another process of this training ended: see its message, then run the same command "
            "again"
        ) from error


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the processes that were started together; alone, this process is the only one.

    Each takes the GPU of its local rank; `device` "cpu" keeps all on the CPU.
    """
    if not is_launched():
        yield Processes(device=torch.device(device))
        return
    n_local, n_gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if device == "mps" or (device != "cpu" and n_local > n_gpus):
        raise SettingError(
            f"{n_local} processes on this machine need as many GPUs, it has {n_gpus}: use fewer, "
            "or the device cpu"
        )
    from accelerate import PartialState

    # torch.distributed counts the threads itself; a warning of accelerate would repeat it
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    state = PartialState(cpu=device == "cpu", timeout=_PATIENCE)
    try:
        yield Processes(state.process_index, state.num_processes, torch.device(str(state.device)))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        PartialState._reset_state()
