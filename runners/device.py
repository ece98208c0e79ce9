"""The device that renders: waiting for it, and its memory in bytes.

Every question to a GPU goes through here, so that no place knows one kind of GPU only.
"""

from __future__ import annotations

import gc
import re
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from plugins_manifest.memory import is_out_of_memory

_BFLOAT16_SINCE = (8, 0)  # compute capability; torch emulates it on older ones


def synchronize(device: str) -> None:
    """Wait until the device has done all its work; a CPU has none that is left."""
    kind = torch.device(device).type
    if kind == "mps":  # there is one, and no argument for it
        torch.mps.synchronize()
    elif kind != "cpu":
        _module(device).synchronize(device)


def release_memory(device: str) -> None:
    """Return what nothing uses to the device, also what only cycles of dead objects hold."""
    gc.collect()
    empty_cache(device)


def empty_cache(device: str) -> None:
    """Return the allocator's unused blocks to the device."""
    if is_gpu(device):
        _module(device).empty_cache()


def is_usable(device: str) -> bool:
    """Return whether a GPU still computes: after some errors its context fails every call."""
    if not is_gpu(device):
        return True
    try:
        torch.ones(1, device=device).sum().item()
    except RuntimeError as error:
        return is_out_of_memory(error)
    return True


def is_gpu(device: str) -> bool:
    """Return whether work on a device runs beside the CPU, in memory of its own account."""
    return torch.device(device).type != "cpu"


def used_bytes(device: str) -> int:
    """Return the memory in use: of tensors on a GPU, else of the process."""
    if not is_gpu(device):
        return psutil.Process().memory_info().rss
    if torch.device(device).type == "mps":
        return torch.mps.current_allocated_memory()
    return _module(device).memory_allocated(device)


def free_bytes(device: str) -> int:
    """Return the memory that further tensors can take, the allocator's unused blocks included."""
    kind = torch.device(device).type
    if kind == "cpu":
        return psutil.virtual_memory().available
    if kind == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    module = _module(device)
    free, _total = module.mem_get_info(device)
    return free + module.memory_reserved(device) - module.memory_allocated(device)


def has_peak_counter(device: str) -> bool:
    """Return whether the device's allocator counts the peak itself; others are sampled."""
    return is_gpu(device) and hasattr(_module(device), "reset_peak_memory_stats")


def reset_peak(device: str) -> None:
    """Let the device's peak counter begin at the memory in use."""
    _module(device).reset_peak_memory_stats(device)


def peak_bytes(device: str) -> int:
    """Return the peak of memory since `reset_peak`."""
    return _module(device).max_memory_allocated(device)


@dataclass(frozen=True)
class GpuFacts:
    """One CUDA GPU; `is_supported`: torch has code for its compute capability."""

    name: str
    capability: tuple[int, int]
    total_bytes: int
    free_bytes: int
    has_bfloat16: bool
    is_supported: bool


@dataclass(frozen=True)
class CudaFacts:
    """The CUDA that torch is built for (None: without), that of the driver, and the GPUs."""

    built_for: str | None
    driver: str | None
    gpus: tuple[GpuFacts, ...]


def cuda_facts(torch_: Any = torch) -> CudaFacts:
    """Return what torch reports about CUDA."""
    cuda = torch_.cuda
    if not cuda.is_available():
        return CudaFacts(torch_.version.cuda, None, ())
    number = torch_._C._cuda_getDriverVersion()  # 12040 is 12.4
    driver = f"{number // 1000}.{number % 1000 // 10}"
    gpus = tuple(_gpu(cuda, index) for index in range(cuda.device_count()))
    return CudaFacts(torch_.version.cuda, driver, gpus)


def _gpu(cuda: Any, index: int) -> GpuFacts:
    found, (free, total) = cuda.get_device_properties(index), cuda.mem_get_info(index)
    capability = (found.major, found.minor)
    return GpuFacts(
        name=found.name,
        capability=capability,
        total_bytes=total,
        free_bytes=free,
        has_bfloat16=capability >= _BFLOAT16_SINCE,
        is_supported=any(_runs_on(capability, name) for name in cuda.get_arch_list()),
    )


def _runs_on(capability: tuple[int, int], architecture: str) -> bool:
    """Return whether code runs: sm_86 is of one major version, compute_80 is compiled for all."""
    kind, _, number = architecture.partition("_")
    digits = re.match(r"\d+", number)
    if digits is None:
        return False
    built = divmod(int(digits[0]), 10)
    if kind == "compute":
        return built <= capability
    return built[0] == capability[0] and built <= capability


def _module(device: str) -> Any:
    return torch.get_device_module(torch.device(device))
