"""Options about GPUs: how the models use one, and the GPUs of an estimate, with its lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

import click

from bench.plan.gpus import GPUS, Gpus
from plugins_manifest.text import duration


def device_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --compile and --low-memory; the command takes them as `options`."""

    @click.option(
        "--compile",
        "is_compiled",
        is_flag=True,
        help="Compile the models' repeated blocks first: minutes for faster steps.",
    )
    @click.option(
        "--low-memory",
        is_flag=True,
        help="Keep only the models in use on the GPU (SD1.5 to SDXL at 1024 px: 12 GiB).",
    )
    @wraps(command)
    def with_options(*args: Any, is_compiled: bool, low_memory: bool, **given: Any) -> None:
        from runners.options import DeviceOptions

        options = DeviceOptions(compile=is_compiled, low_memory=low_memory)
        command(*args, options=options, **given)

    return with_options


def gpu_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --gpus, --gpu and --tflops; the command takes them as `gpus`, None without a type."""

    @click.option("--gpus", "count", type=click.IntRange(1, 9999), metavar="N", help="How many.")
    @click.option(
        "--gpu",
        type=click.Choice(list(GPUS), case_sensitive=False),
        help="Also estimate the time on GPUs of this type.",
    )
    @click.option(
        "--tflops",
        type=click.FloatRange(min=0, min_open=True),
        metavar="RATE",
        help="The measured rate of one, in 10^12 operations a second [half of its peak].",
    )
    @wraps(command)
    def with_gpus(
        *args: Any, count: int | None, gpu: str | None, tflops: float | None, **given: Any
    ) -> None:
        if gpu is None and (count, tflops) != (None, None):
            raise click.UsageError("--gpus and --tflops need a type: --gpu a100")
        gpus = None if gpu is None else Gpus(gpu, count or 1, tflops)
        command(*args, gpus=gpus, **given)

    return with_gpus


def gpu_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the time on some GPUs, and where their rate is from."""
    wall, total = (duration(max(1.0, facts[key] * 3600)) for key in ("wall_hours", "gpu_hours"))
    shared = f", {total.removeprefix('about ')} of one GPU" if facts["count"] > 1 else ""
    yield f"{'GPUs':<10} {facts['count']} x {facts['gpu'].upper()}: {wall}{shared}"
    if facts["used"] < facts["count"]:
        yield f"{'':<10} only {facts['used']} of them have work: a batch is never split"
    work = f"{facts['tera_operations']:,.0f} x 10^12 operations"
    rate = f"{work} at {facts['rate_tflops']:.3g} TFLOP/s"
    if facts["is_measured"]:
        yield f"{'':<10} {rate} each, the rate that you gave"
        return
    yield (
        f"{'':<10} {rate} each: an assumption, half of the type's peak of "
        f"{facts['peak_tflops']:.3g}"
    )
    yield f"{'':<10} measure it: scripts/gpu-check on such a GPU, then --tflops RATE"


def memory_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the memory that a plan takes, and the batch that fits a named GPU."""
    low = f"{facts['low_memory_gib_batch_1']:.1f} at batch 1 with --low-memory"
    yield (
        f"{'memory':<10} about {facts['gpu_gib']:.1f} GiB on the GPU at batch {facts['batch']} "
        f"({low}), {facts['ram_gib']:.0f} GiB of RAM"
    )
    if "gpu" not in facts:
        return
    batch, low_batch = facts["fits_batch"], facts["fits_batch_low_memory"]
    has = f"{facts['gpu'].upper()} ({facts['has_gib']} GiB)"
    if not low_batch:
        yield f"{'':<10} {has}: too small for one image, also with --low-memory"
    elif not batch:
        yield f"{'':<10} {has}: fits at batch {low_batch}, with --low-memory alone"
    else:
        more = f", at batch {low_batch} with --low-memory" if low_batch > batch else ""
        yield f"{'':<10} {has}: fits at batch {batch}{more}"
