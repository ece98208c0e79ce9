"""Stage `machine`: versions, the device, and its ceiling, a large bfloat16 product."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterator

import psutil
import torch

from bench.provenance import device_facts
from gpu_check.measure import GIB, seconds_of
from gpu_check.stages import Row, Setting

_N_PRODUCTS = 20


def machine_rows(setting: Setting) -> Iterator[Row]:
    """Yield facts about the device, then its ceiling: the median of products of square matrices."""
    yield _facts(setting)
    side = 512 if setting.small else 8192
    left, right = (
        torch.randn(side, side, dtype=torch.bfloat16, device=setting.device) for _ in range(2)
    )
    seconds = [seconds_of(setting.device, lambda: left @ right) for _ in range(_N_PRODUCTS + 5)]
    median_s = statistics.median(seconds[5:])  # the first ones choose an algorithm
    tflops = 2 * side**3 / median_s / 1e12
    yield {"product": side, "ms": round(1000 * median_s, 3), "ceiling_tflops": round(tflops, 4)}


def _facts(setting: Setting) -> Row:
    row: Row = {**device_facts(setting.device), "os": platform.system()}
    row["host_memory_gib"] = round(psutil.virtual_memory().total / GIB, 1)
    if setting.is_cuda:
        known = torch.cuda.get_device_properties(setting.device)
        row |= {
            "memory_gib": round(known.total_memory / GIB, 1),
            "capability": f"{known.major}.{known.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return row
