"""Stage `compiled`: what `--compile` does, with the hooks outside of the graphs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from gpu_check.measure import (
    Sides,
    control_of,
    family_of,
    mean_deviation,
    reset_memory,
    sides_of,
    size_of,
    synchronize,
    tera_operations,
)
from gpu_check.stages import Row, Setting
from gpu_check.throughput import rate_row
from runners.families.options import compile_family

# bfloat16 keeps 8 bits; the order of sums changes in compiled kernels
LIMIT = 0.05
_STEPS = 2


def compiled_rows(setting: Setting) -> Iterator[Row]:
    """Yield a row per batch: the time to compile, the rates, and what must hold."""
    family, control = family_of(setting), control_of(setting)
    size = size_of(setting)
    sides = {b: sides_of(setting, family, batch=b, control=control) for b in size.compiled_batches}
    single = sides_of(setting, family, batch=1, control=control)
    tera = tera_operations(lambda: single.loop("xadapter")(1))
    eager = {batch: _eager(setting, side, tera * batch) for batch, side in sides.items()}
    compile_family(family)
    for batch, side in sides.items():
        row, expected = eager[batch]
        started = time.perf_counter()
        side.loop("xadapter")(1)
        synchronize(setting.device)
        compile_s = time.perf_counter() - started
        reset_memory(setting.device)
        rate = rate_row(setting, side.loop("xadapter"), tera * batch)
        found = side.loop("xadapter")(_STEPS)
        without = side.loop("xadapter", adapter_scale=0.0)(_STEPS)
        from_eager, of_offsets = mean_deviation(found, expected), mean_deviation(found, without)
        yield {
            "batch": batch,
            "compile_s": round(compile_s, 1),
            **row,
            **rate,
            "deviation_from_eager": from_eager,
            "equals_eager": from_eager <= LIMIT,
            "deviation_from_scale_0": of_offsets,
            "offsets_act": of_offsets > LIMIT,
        }


def _eager(setting: Setting, sides: Sides, tera: float) -> tuple[Row, torch.Tensor]:
    rate = rate_row(setting, sides.loop("xadapter"), tera)
    names = ("steps_per_s", "share_of_ceiling")
    return {f"eager_{name}": rate[name] for name in names}, sides.loop("xadapter")(_STEPS)
