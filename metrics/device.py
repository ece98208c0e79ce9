"""The device that the metrics' networks run on, and how many pictures one call takes there.

The CPU takes pictures one by one, so that a number depends neither on the batch nor on the order of
the images: PyTorch's kernels round differently for other batches. Its published numbers stay as
they are. A GPU takes up to 32, where such differences are of the size of those between GPUs; the
recipe names both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from plugins_manifest.errors import UserError
from plugins_manifest.memory import is_out_of_memory

DEVICE_VARIABLE = "XBENCH_METRIC_DEVICE"
GPU_BATCH = 32
_CHOSEN: ContextVar[str | None] = ContextVar("metric device", default=None)

Item = TypeVar("Item")
Found = TypeVar("Found")


def named_device() -> str | None:
    """Return what `XBENCH_METRIC_DEVICE` names."""
    return os.environ.get(DEVICE_VARIABLE) or None


def device_name() -> str:
    """Return the device chosen by `on_device`, else `XBENCH_METRIC_DEVICE`, else "cpu"."""
    return _CHOSEN.get() or named_device() or "cpu"


@contextmanager
def on_device(name: str) -> Iterator[None]:
    """Run networks on a device inside of the context."""
    token = _CHOSEN.set(name)
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def choose_device(name: str) -> str:
    """Resolve "auto": `XBENCH_METRIC_DEVICE`, else a CUDA GPU, else the CPU; imports torch.

    Raises `UserError` for a device that is not available.
    """
    import torch

    if name == "auto":
        return named_device() or ("cuda" if torch.cuda.is_available() else "cpu")
    index = name.partition(":")[2]
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    usable = ["cpu", *["cuda"] * bool(n_gpus), *["mps"] * has_mps]
    usable += [f"cuda:{i}" for i in range(n_gpus)] if n_gpus > 1 or index else []
    if name not in usable:
        raise UserError(
            f"--metric-device {name}: this machine has none that torch can use; try "
            f"{', '.join(usable)}"
        )
    return name


def batch_size() -> int:
    """Return how many pictures a network takes in one call."""
    return 1 if device_name() == "cpu" else GPU_BATCH


def arithmetic() -> str:
    """Return dtype, device kind and batch size, for recipes."""
    kind = device_name().partition(":")[0]
    at_once = "one picture at a time" if batch_size() == 1 else f"batches of up to {GPU_BATCH}"
    return f"float32 on {kind}, {at_once}"


def in_batches(
    call: Callable[[Sequence[Item]], Sequence[Found]], items: Sequence[Item]
) -> list[Found]:
    """Return what a network's call returns for each item, a batch at a time.

    Where the device's memory does not suffice the batch is halved, down to one item.
    """
    found: list[Found] = []
    size = batch_size()
    while len(found) < len(items):
        part = items[len(found) : len(found) + size]
        done = _tried(call, part)
        if done is None:
            size = len(part) // 2
        else:
            found.extend(done)
    return found


def _tried(
    call: Callable[[Sequence[Item]], Sequence[Found]], part: Sequence[Item]
) -> Sequence[Found] | None:
    """Return what a call returns; None if it is out of memory and the batch can be halved.

    The error is dropped here, with the tensors that its frames hold.
    """
    try:
        with _full_precision():
            return call(part)
    except Exception as error:
        if len(part) == 1 or not is_out_of_memory(error):
            raise
    _free_memory()
    return None


@contextmanager
def _full_precision() -> Iterator[None]:
    """Multiply in float32 on CUDA: convolutions take TensorFloat-32 by default, of 10 bits."""
    if not device_name().startswith("cuda"):
        yield
        return
    from torch.backends import cudnn

    with cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _free_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
