"""The cost of rendering a plan: seconds on the pocket family, operations on real models, disk.

Operations of one call and one row were counted by PyTorch on models of real size, at two sizes
(docs/real-models.md); between and beyond them they follow a power of the pixels. Text encoders and
condition detectors are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bench.plan.plan import Group, Plan
from bench.registry import find_method
from plugins_manifest.schema.manifest import Manifest, Settings
from runners.base import Variant

# Measured seconds for one image and one step on one busy CPU core, shared passes included.
_POCKET_SECONDS_PER_STEP = {
    **{"base": 0.010, "hires": 0.012, "floor": 0.018, "oracle": 0.022, "sdedit": 0.018},
    **dict.fromkeys(
        ("xadapter", "xadapter-swapped", "xadapter-truncated", "xadapter-unplugged"), 0.030
    ),
}
_PNG_BYTES_PER_PIXEL = 1.5
# 10^12 operations at 256 and 512 px (base side), 512 and 1024 px (upgraded side)
_BASE_UNET, _UPGRADED_UNET, _MAPPER = (0.18, 0.80), (1.59, 6.76), (0.45, 1.79)
_DECODE_BASE, _ENCODE, _DECODE = (0.6, 2.5), (1.1, 4.9), (2.5, 10.5)
_BASE_PX, _UPGRADED_PX = (256, 512), (512, 1024)
GPU_TFLOPS = 150.0  # half of what an A100 does at most in half precision
_COUNTED = ("sd15-sdxl",)


@dataclass(frozen=True)
class Estimate:
    """The cost of a run; None where nothing was measured or counted.

    `seconds` is on one CPU core, `tera_operations` of the denoisers, mapper and VAEs.
    """

    trials: dict[str, int]
    seconds: float | None
    tera_operations: float | None
    disk_mib: float

    @property
    def gpu_hours(self) -> float | None:
        """Hours at an effective 150 TFLOP/s: an estimate, not measured."""
        if self.tera_operations is None:
            return None
        return self.tera_operations / GPU_TFLOPS / 3600


def estimate(plan: Plan) -> Estimate:
    """Estimate seconds or operations, and disk space, of rendering the plan."""
    settings, counts = plan.manifest.settings, plan.counts()
    family = plan.manifest.family
    known = family == "pocket" and set(counts) <= set(_POCKET_SECONDS_PER_STEP)
    seconds = sum(
        n * settings.steps * _POCKET_SECONDS_PER_STEP.get(m, 0) for m, n in counts.items()
    )
    n_bytes = sum(
        n * _PNG_BYTES_PER_PIXEL * _n_pixels(plan.manifest, method) for method, n in counts.items()
    )
    work = sum(_of_group(group, settings) for group in plan.groups)
    return Estimate(
        counts,
        seconds if known else None,
        work if family in _COUNTED else None,
        n_bytes / 2**20,
    )


def _of_group(group: Group, settings: Settings) -> float:
    """Count 10^12 operations of a batch: stage 1 once per member and plugin scale, and the rest."""
    staged = {v.plugin_scale for v in group.variants if find_method(v.method).uses_plugin}
    stage_1 = 0.0 if group.arrangement == "native" else len(staged) * _stage_1(settings)
    return len(group.members) * (stage_1 + sum(_stage_2(v, settings) for v in group.variants))


def _stage_1(settings: Settings) -> float:
    side_px = _side(settings.base_size)
    unet = _at(_BASE_UNET, _BASE_PX, side_px)
    return settings.steps * _rows(settings) * unet + _at(_DECODE_BASE, _BASE_PX, side_px)


def _stage_2(variant: Variant, settings: Settings) -> float:
    """Count 10^12 operations that a variant adds to the base model's own picture."""
    method = find_method(variant.method)
    if variant.method == "base":
        return 0.0
    base_px, upgraded_px = _side(settings.base_size), _side(settings.upgraded_size)
    n_steps = max(1, round(settings.steps * (variant.t0 or 1.0)))
    call = _at(_UPGRADED_UNET, _UPGRADED_PX, upgraded_px)
    if variant.method == "hires":
        call = _at(_BASE_UNET, _BASE_PX, upgraded_px)
    if method.uses_adapter:
        call += _at(_BASE_UNET, _BASE_PX, base_px) + _at(_MAPPER, _UPGRADED_PX, upgraded_px)
    encode = _at(_ENCODE, _UPGRADED_PX, upgraded_px) if method.uses_t0 else 0.0
    return n_steps * _rows(settings) * call + encode + _at(_DECODE, _UPGRADED_PX, upgraded_px)


def _at(measured: tuple[float, float], sizes_px: tuple[int, int], side_px: float) -> float:
    """Interpolate a cost to another size by the power of the side through its two measurements."""
    power = math.log(measured[1] / measured[0]) / math.log(sizes_px[1] / sizes_px[0])
    return measured[1] * (side_px / sizes_px[1]) ** power


def _side(size_px: tuple[int, int]) -> float:
    return math.sqrt(size_px[0] * size_px[1])


def _rows(settings: Settings) -> int:
    """Return the rows per image: 2 with classifier-free guidance, else 1."""
    return 2 if settings.guidance_scale > 1 else 1


def _n_pixels(manifest: Manifest, method: str) -> int:
    settings = manifest.settings
    is_base = find_method(method).side == "base"
    width_px, height_px = settings.base_size if is_base else settings.upgraded_size
    return width_px * height_px


def cost_facts(plan: Plan) -> dict[str, Any]:
    """Return the plan in numbers, for `--json`."""
    cost = estimate(plan)
    hours = cost.gpu_hours
    return {
        "manifest": plan.manifest.name,
        "trials": len(plan.trials),
        "methods": cost.trials,
        "batches": len(plan.groups),
        "plugins": list(plan.plugins),
        "stacks": [stack.id for stack in plan.manifest.stacks],
        "seconds": cost.seconds,
        "gpu_hours": None if hours is None else round(hours, 2),
        "disk_mib": round(cost.disk_mib, 2),
    }
