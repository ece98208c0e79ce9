"""What rendering a plan takes on a named number and type of GPUs, from its counted operations.

Peaks are dense (no structured sparsity), in bfloat16 with float32 sums, of the makers' data sheets
(docs/real-models.md lists them); the T4 has no bfloat16, its peak is that of float16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import UserError

if TYPE_CHECKING:
    from bench.plan.plan import Plan


@dataclass(frozen=True)
class GpuType:
    """The peak of a type, and its memory: of several sizes the least."""

    peak_tflops: float
    memory_gib: int


GPUS: dict[str, GpuType] = {
    "t4": GpuType(65.0, 16),
    "a10g": GpuType(70.0, 24),
    "l4": GpuType(121.0, 24),
    "rtx-3090": GpuType(71.0, 24),
    "rtx-4090": GpuType(165.2, 24),
    "a100": GpuType(312.0, 40),
    "h100": GpuType(989.4, 80),
    "h200": GpuType(989.4, 141),
}
ASSUMED_SHARE = 0.5  # of the peak, until it is measured


@dataclass(frozen=True)
class Gpus:
    """`count` GPUs of one type; `tflops` is the measured rate of one, None to assume it."""

    kind: str
    count: int = 1
    tflops: float | None = None

    @property
    def rate_tflops(self) -> float:
        """The 10^12 operations per second that one GPU is taken to do."""
        return self.tflops or ASSUMED_SHARE * GPUS[self.kind].peak_tflops


def gpu_facts(plan: Plan, gpus: Gpus) -> dict[str, Any]:
    """Return the work of a plan, the GPU-hours, and the hours until the last GPU is done.

    Batches are dealt as to shards and never split. Loading models, text encoders, ControlNets,
    downloads and metrics are left out. Raises `UserError` for a family without counted operations.
    """
    from bench.plan.cost import work_of
    from bench.plan.shards import deal
    from runners.families import family_traits

    costs = family_traits(plan.manifest.family).cost
    total = work_of(plan, plan.groups)
    if total is None or costs is None or costs.unit != "tera-operations":
        raise UserError(
            f"--gpu: the operations of the family {plan.manifest.family!r} are not counted, so its "
            "time on a GPU cannot be estimated: leave --gpu out"
        )
    loads = [work_of(plan, groups) or 0.0 for groups in deal(plan, gpus.count)]
    hours = 1 / gpus.rate_tflops / 3600
    return {
        "gpu": gpus.kind,
        "count": gpus.count,
        "used": sum(load > 0 for load in loads),
        "peak_tflops": GPUS[gpus.kind].peak_tflops,
        "rate_tflops": gpus.rate_tflops,
        "is_measured": gpus.tflops is not None,
        "tera_operations": total,
        "gpu_hours": total * hours,
        "wall_hours": max(loads) * hours,
    }
