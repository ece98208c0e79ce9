"""Stage `end-to-end`: a sweep through `run_group`; wall time against time in kernels.

The ControlNet is a file that `run_group` loads, as a run does; the clock starts after that.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from gpu_check.measure import (
    T0S,
    cases_of,
    control_of,
    family_of,
    memory_row,
    reset_memory,
    settings_of,
    size_of,
    synchronize,
)
from gpu_check.stages import Row, Setting
from runners.base import PluginFile, Variant
from runners.group import run_group

VARIANTS = tuple(
    Variant(method, t0=t0, adapter_scale=1.0 if method == "xadapter" else None)
    for t0 in T0S
    for method in ("sdedit", "xadapter")
)
_N_PLACES = 8


def end_to_end_rows(setting: Setting) -> Iterator[Row]:
    """Yield the sweep's wall time, then its time in kernels, then where it synchronizes."""
    family, size = family_of(setting), size_of(setting)
    with tempfile.TemporaryDirectory() as folder:
        control_of(setting).save_pretrained(folder)
        plugin = PluginFile("control", "controlnet", Path(folder), condition="canny")

        def sweep(n_steps: int) -> Row:
            loaded: list[float] = []
            started = time.perf_counter()
            results = run_group(
                family,
                plugin,
                cases_of(size, size.n_cases),
                VARIANTS,
                settings_of(size, n_steps=n_steps),
                on_loaded=lambda _: loaded.append(time.perf_counter()),
            )
            errors = [result.error for result in results if result.error]
            synchronize(setting.device)
            if errors:
                raise RuntimeError(f"{len(errors)} images failed: {errors[0]}")
            return {
                "load_s": round(loaded[0] - started, 2),
                "wall_s": round(time.perf_counter() - loaded[0], 3),
            }

        sweep(1)  # algorithms are chosen, memory is reserved
        reset_memory(setting.device)
        row = sweep(size.n_steps)
        n_images = size.n_cases * len(VARIANTS)
        row |= {"cases": size.n_cases, "variants": len(VARIANTS), "steps": size.n_steps}
        row |= {"s_per_image": round(row["wall_s"] / n_images, 4), **memory_row(setting.device)}
        yield row
        yield _kernels(setting, lambda: sweep(size.n_steps), row["wall_s"])
        yield {"synchronizing": _places(setting, lambda: sweep(1)), "steps": 1}


def _kernels(setting: Setting, work: Callable[[], Row], wall_s: float) -> Row:
    """Return the time in kernels and copies under a profiler, and the calls that wait for them.

    The idle share compares with the wall time without a profiler. On a CPU operations take the
    place of kernels.
    """
    activity = ProfilerActivity.CUDA if setting.is_cuda else ProfilerActivity.CPU
    with profile(activities=[activity], acc_events=False) as recorded:
        work()
    profiler: Any = recorded.profiler
    events = profiler.kineto_results.events()
    waits = Counter(event.name() for event in events if "ynchronize" in event.name())
    kernels = [
        (event.start_ns(), event.duration_ns())
        for event in events
        if (event.device_type() == torch.autograd.DeviceType.CPU) != setting.is_cuda
        and "sync" not in event.name().lower()
    ]
    kernel_s = _covered_s(kernels)
    return {
        "kernel_s": round(kernel_s, 3),
        "n_kernels": len(kernels),
        "idle_share": round(max(0.0, 1 - kernel_s / wall_s), 4),
        "waits": dict(waits),
    }


def _covered_s(spans: list[tuple[int, int]]) -> float:
    """Return the length of the union of (start, duration) in ns, in seconds."""
    total = end = 0
    for start, duration in sorted(spans):
        total += max(0, start + duration - max(start, end))
        end = max(end, start + duration)
    return total / 1e9


def _places(setting: Setting, work: Callable[[], Row]) -> list[Row] | None:
    """Return the places of the code that wait for the GPU most often; None on a CPU.

    `torch.cuda.synchronize` itself, which the clock of passes calls, is not among them.
    """
    if not setting.is_cuda:
        work()
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        work()
        torch.cuda.set_sync_debug_mode("default")
    places = Counter(
        f"{'/'.join(Path(w.filename).parts[-2:])}:{w.lineno}"
        for w in caught
        if "synchroniz" in str(w.message)
    )
    return [{"place": place, "n": n} for place, n in places.most_common(_N_PLACES)]
