"""The memory that a plan takes: on a GPU, with and without `--low-memory`, and of the machine.

Weights follow from numbers of parameters, the rest from tensors that were counted at real size
(`scripts/gpu_check/counted_memory.py`). What kernels, allocator and libraries take is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bench.plan.cost import at_side, mean_side, n_rows
from bench.plan.gpus import GPUS, Gpus
from bench.plan.plan import BATCH_SIZE, Group, Plan
from plugins_manifest.schema import Settings
from plugins_manifest.schema.kinds import KINDS
from runners.families import family_traits
from runners.families.traits import FamilyMemory
from runners.options import TILE_PX

GIB = float(1 << 30)
GPU_OVERHEAD_BYTES = GIB  # assumed: context, workspaces, unused blocks of the allocator
RAM_OVERHEAD_BYTES = 3 * GIB  # assumed: libraries, pictures and metrics
_IMAGE_ENCODER_MB = 2529  # of an IP-Adapter, float32
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes on the device that do not depend on the batch, per image of it, and of the machine.

    `pictures` is what the VAEs take when they decode or encode one image, with their weights if
    others are not on the device; `image` what each image of a batch takes in a step.
    """

    weights: float
    image: float
    pictures: float
    ram: float

    def gpu_bytes(self, batch: int) -> float:
        """Return the peak on the GPU; VAEs take image after image."""
        return GPU_OVERHEAD_BYTES + max(self.weights + batch * self.image, self.pictures)

    def largest_batch(self, n_bytes: float) -> int:
        """Return how many images fit, at most those of a planned batch; 0 if none does."""
        fitting = [n for n in range(1, BATCH_SIZE + 1) if self.gpu_bytes(n) <= n_bytes]
        return max(fitting, default=0)


def memory_need(plan: Plan, *, low_memory: bool = False) -> MemoryNeed | None:
    """Return what the most demanding batch of a plan takes; None if its models are not counted."""
    memory = family_traits(plan.manifest.family).memory
    if memory is None:
        return None
    needs = [_need(plan, group, memory, low_memory=low_memory) for group in plan.groups]
    if not needs:
        return None
    most = max(needs, key=lambda need: need.gpu_bytes(BATCH_SIZE))
    return replace(most, ram=max(need.ram for need in needs))


def _need(plan: Plan, group: Group, memory: FamilyMemory, *, low_memory: bool) -> MemoryNeed:
    settings, n_bytes = group.settings, _BYTES[group.settings.dtype]
    networks, merged = _plugin_bytes(plan, group, memory)
    n_more_mappers = max(0, len(plan.adapters) - 1)  # each is loaded once and stays
    denoisers = (memory.denoisers + n_more_mappers * memory.mapper) * n_bytes + networks
    vaes, texts = memory.vaes * n_bytes, memory.text_encoders * n_bytes
    image = n_rows(settings) / 2 * _scaled(memory.step_bytes, memory, settings, n_bytes)
    picture = _scaled(memory.picture_bytes, memory, settings, n_bytes, most_px=TILE_PX)
    ram = RAM_OVERHEAD_BYTES + denoisers + vaes + texts + merged
    if low_memory:  # one use at a time; originals of merged weights wait with their model
        return MemoryNeed(denoisers, image, max(texts, vaes + picture), ram)
    picture = _scaled(memory.picture_bytes, memory, settings, n_bytes)
    weights = denoisers + vaes + merged
    return MemoryNeed(weights, image, weights + max(texts, picture), ram)


def _scaled(
    counted: tuple[float, float],
    memory: FamilyMemory,
    settings: Settings,
    n_bytes: int,
    *,
    most_px: float = float("inf"),
) -> float:
    """Return what was counted in half precision, at the size and the precision of the settings."""
    side_px = min(mean_side(settings.upgraded_size), most_px)
    return at_side(counted, memory.upgraded_px, side_px) * n_bytes / 2


def _plugin_bytes(plan: Plan, group: Group, memory: FamilyMemory) -> tuple[float, float]:
    """Return the bytes of a group's networks, and of the weights that are kept while it merges."""
    n_bytes = _BYTES[group.settings.dtype]
    kinds = [KINDS[file.kind] for file in plan.stack(group)]
    megabytes = sum(
        (kind.typical_mb or 0) + (_IMAGE_ENCODER_MB if kind.needs_reference else 0)
        for kind in kinds
    )
    is_merged = any(kind.changes_weights for kind in kinds)
    return megabytes * 1e6 / 4 * n_bytes, memory.base_unet * n_bytes if is_merged else 0.0


def memory_facts(plan: Plan, gpus: Gpus | None = None) -> dict[str, Any] | None:
    """Return the estimate in GiB, for `--json`; None for a family that is not counted."""
    need, low = memory_need(plan), memory_need(plan, low_memory=True)
    if need is None or low is None:
        return None
    batch = max(len(group.members) for group in plan.groups)
    facts: dict[str, Any] = {
        "batch": batch,
        "gpu_gib": round(need.gpu_bytes(batch) / GIB, 1),
        "gpu_gib_batch_1": round(need.gpu_bytes(1) / GIB, 1),
        "low_memory_gib": round(low.gpu_bytes(batch) / GIB, 1),
        "low_memory_gib_batch_1": round(low.gpu_bytes(1) / GIB, 1),
        "ram_gib": round(need.ram / GIB, 1),
    }
    if gpus is not None:
        n_bytes = GPUS[gpus.kind].memory_gib * GIB
        facts |= {"gpu": gpus.kind, "has_gib": GPUS[gpus.kind].memory_gib}
        facts |= {"fits_batch": need.largest_batch(n_bytes)}
        facts |= {"fits_batch_low_memory": low.largest_batch(n_bytes)}
    return facts
