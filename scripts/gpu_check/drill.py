"""Stage `memory`: a group in less memory than it needs, and what is left of it afterwards.

On a GPU torch's allocator is limited to 24 and 12 GiB; on a CPU the address space of the process.
"""

from __future__ import annotations

import gc
import logging
import resource
from collections.abc import Iterator

import psutil
import torch

from gpu_check.measure import GIB, cases_of, family_of, reset_memory, settings_of, size_of
from gpu_check.stages import Row, Setting
from runners.base import Variant
from runners.families import Family
from runners.group import run_group

_GPU_LIMITS_GIB = (24.0, 12.0)
_CPU_LIMITS_GIB = (0.5, 0.01)  # beyond what the process has mapped
_BATCH = 12
_VARIANT = Variant("xadapter", t0=1.0, adapter_scale=1.0)


def memory_rows(setting: Setting) -> Iterator[Row]:
    """Yield a row per limit and batch, the batch halved until the group renders."""
    logging.getLogger("runners").setLevel(logging.ERROR)  # failures are what is measured
    family = family_of(setting)
    _rendered(family, setting, 1)  # before the limit: what the first call allocates for good
    for limit_gib in _GPU_LIMITS_GIB if setting.is_cuda else _CPU_LIMITS_GIB:
        batch = _BATCH
        while batch >= 1:
            reset_memory(setting.device)
            before = _held_bytes(setting)
            _limit(setting, limit_gib)
            errors = _rendered(family, setting, batch)
            _limit(setting, None)
            gc.collect()
            reset_memory(setting.device)
            yield {
                "limit_gib": limit_gib,
                "batch": batch,
                "weights_gib": round(_weights_gib(family), 2),
                "images": batch - len(errors),
                "reason": errors[0] if errors else None,
                "kept_mib": round((_held_bytes(setting) - before) / 2**20, 1),
            }
            if not errors:
                break
            batch //= 2


def _rendered(family: Family, setting: Setting, batch: int) -> list[str]:
    """Render one step of a batch; return the errors of its images."""
    size = size_of(setting)
    settings = settings_of(size, n_steps=1)
    results = run_group(family, None, cases_of(size, batch), [_VARIANT], settings)
    return [result.error for result in results if result.error]


def _limit(setting: Setting, gib: float | None) -> None:
    """Limit the memory that may be allocated; None: no limit."""
    if setting.is_cuda:
        total = torch.cuda.get_device_properties(setting.device).total_memory
        share = 1.0 if gib is None else min(1.0, gib * GIB / total)
        index = torch.device(setting.device).index or 0  # it takes no device without one
        torch.cuda.set_per_process_memory_fraction(share, index)
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    mapped = psutil.Process().memory_info().vms
    limit = hard if gib is None else int(mapped + gib * GIB)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _held_bytes(setting: Setting) -> int:
    if setting.is_cuda:
        return torch.cuda.memory_allocated(setting.device)
    return psutil.Process().memory_info().rss


def _weights_gib(family: Family) -> float:
    parts = (
        *(family.base.unet, family.base.vae, family.base.text_encoder, family.mapper),
        *(getattr(family.upgraded, n) for n in ("unet", "vae", "text_encoder", "text_encoder_2")),
    )
    return sum(p.nbytes for part in parts if part is not None for p in part.parameters()) / GIB
