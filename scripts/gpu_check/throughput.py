"""Stage `throughput`: steps per second of each method's loop, and its share of the ceiling."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_check.measure import (
    DTYPE,
    Loop,
    control_of,
    family_of,
    memory_row,
    reset_memory,
    seconds_of,
    sides_of,
    size_of,
    tera_operations,
)
from gpu_check.stages import Row, Setting
from plugins_manifest.memory import is_out_of_memory

METHODS = ("base", "floor", "sdedit", "xadapter")
_STEPS = 4
_WARM_STEPS = 2


def throughput_rows(setting: Setting) -> Iterator[Row]:
    """Yield a row per method and batch; one that does not fit has the reason in its place."""
    family, control = family_of(setting), control_of(setting)
    single = sides_of(setting, family, batch=1, control=control)
    counted = {name: tera_operations(lambda n=name: single.loop(n)(1)) for name in METHODS}
    size = size_of(setting)
    facts = {"base_px": size.base_px, "upgraded_px": 2 * size.base_px, "dtype": DTYPE}
    for batch in size.batches:
        sides = sides_of(setting, family, batch=batch, control=control)
        for name in METHODS:
            row: Row = {"method": name, "batch": batch, **facts}
            reset_memory(setting.device)
            try:
                yield row | rate_row(setting, sides.loop(name), counted[name] * batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                yield row | {"reason": "out of memory", **memory_row(setting.device)}


def rate_row(setting: Setting, loop: Loop, tera_per_step: float) -> Row:
    """Return steps per second, the share of the ceiling and the memory of a loop."""
    loop(_WARM_STEPS)
    seconds = seconds_of(setting.device, lambda: loop(_STEPS))
    per_second = _STEPS / seconds
    tflops = per_second * tera_per_step
    share = None if setting.ceiling_tflops is None else round(tflops / setting.ceiling_tflops, 4)
    return {
        "steps_per_s": round(per_second, 3),
        "tera_operations_per_step": round(tera_per_step, 5),
        "tflops": round(tflops, 4),
        "share_of_ceiling": share,
        **memory_row(setting.device),
    }
