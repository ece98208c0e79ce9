"""What rendering a plan takes: seconds or operations, as its family declares, and disk space.

The cost of a model call is known at two image sizes; between and beyond them it follows a power of
the side. Text encoders and condition detectors are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.plan.plan import Group, Plan
from bench.registry import find_method
from plugins_manifest.schema import Manifest, Settings
from runners.base import Variant
from runners.families import family_traits
from runners.families.traits import FamilyCost
from runners.protocols import cost_of

_PNG_BYTES_PER_PIXEL = 1.5
GPU_TFLOPS = 150.0  # half of what an A100 does at most in half precision


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
    """Return seconds or operations, and the disk space, that rendering the whole plan takes."""
    manifest, counts = plan.manifest, plan.counts()
    costs = family_traits(manifest.family).cost
    work = work_of(plan, plan.groups)
    n_bytes = sum(
        n * _PNG_BYTES_PER_PIXEL * _n_pixels(manifest, method) for method, n in counts.items()
    )
    return Estimate(
        counts,
        work if costs is not None and costs.unit == "seconds" else None,
        work if costs is not None and costs.unit == "tera-operations" else None,
        n_bytes / 2**20,
    )


def work_of(plan: Plan, groups: Sequence[Group]) -> float | None:
    """Return the cost of some batches in the unit of their family; None if it is not known."""
    costs = family_traits(plan.manifest.family).cost
    if costs is None:
        return None
    return sum(_of_group(group, group.settings, costs) for group in groups)


def _of_group(group: Group, settings: Settings, costs: FamilyCost) -> float:
    """Return the cost of a batch: stage 1 once per member and plugin scale, and the rest."""
    staged = {v.plugin_scale for v in group.variants if "stage1" in find_method(v.method).shares}
    stage_1 = len(staged) * _stage_1(settings, costs)
    rest = sum(
        _beyond_stage_1(
            variant,
            settings,
            costs,
            n_walkers=_n_alike(group, variant, adapter=None),
            n_scales=_n_alike(group, variant),
        )
        for variant in group.variants
    )
    return len(group.members) * (stage_1 + rest)


def _stage_1(settings: Settings, costs: FamilyCost) -> float:
    side_px = mean_side(settings.base_size)
    unet = at_side(costs.base_unet, costs.base_px, side_px)
    decode = at_side(costs.decode_base, costs.base_px, side_px)
    return settings.steps * n_rows(settings) * unet + decode


def _n_alike(group: Group, variant: Variant, **free: None) -> int:
    """Return how many variants differ at most in the adapter scale, and in what is free."""
    if "stage2" not in find_method(variant.method).shares:
        return 1
    own = replace(variant, adapter_scale=None, **free)
    return sum(replace(other, adapter_scale=None, **free) == own for other in group.variants)


def _beyond_stage_1(
    variant: Variant, settings: Settings, costs: FamilyCost, *, n_walkers: int, n_scales: int
) -> float:
    """Return the cost of a variant.

    Its steps of the base model are shared by `n_walkers`, those of the mapper by `n_scales`.
    """
    calls = cost_of(find_method(variant.method), settings, variant)
    base_px, upgraded_px = mean_side(settings.base_size), mean_side(settings.upgraded_size)
    n_steps = max(1, round(settings.steps * (variant.t0 or 1.0)))
    n_joint = n_steps if calls.n_joint_steps is None else calls.n_joint_steps
    upgraded = calls.upgraded_calls * at_side(costs.upgraded_unet, costs.upgraded_px, upgraded_px)
    joint = (
        calls.base_calls / n_walkers * at_side(costs.base_unet, costs.base_px, base_px)
        + calls.enlarged_calls * at_side(costs.base_unet, costs.base_px, upgraded_px)
        + calls.mapper_calls / n_scales * at_side(costs.mapper, costs.upgraded_px, upgraded_px)
    )
    n_encodes = calls.n_encodes + n_joint * calls.step_encodes
    n_decodes = calls.n_decodes + n_joint * calls.step_decodes
    return (
        n_rows(settings) * (n_steps * upgraded + n_joint * joint)
        + n_encodes * at_side(costs.encode, costs.upgraded_px, upgraded_px)
        + n_decodes * at_side(costs.decode, costs.upgraded_px, upgraded_px)
        # the base VAE's encoder is not measured: as the upgraded one's at the base size
        + n_joint * calls.base_step_encodes * at_side(costs.encode, costs.upgraded_px, base_px)
        + n_joint * calls.base_step_decodes * at_side(costs.decode_base, costs.base_px, base_px)
    )


def at_side(measured: tuple[float, float], sizes_px: tuple[int, int], side_px: float) -> float:
    """Interpolate to another size by the power of the side through two measurements."""
    power = math.log(measured[1] / measured[0]) / math.log(sizes_px[1] / sizes_px[0])
    return measured[1] * (side_px / sizes_px[1]) ** power


def mean_side(size_px: tuple[int, int]) -> float:
    """Return the side of a square of the same area, in px."""
    return math.sqrt(size_px[0] * size_px[1])


def n_rows(settings: Settings) -> int:
    """Return the UNet's rows per image: two with classifier-free guidance."""
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
        **({"adapters": [one.id for one in plan.adapters]} if plan.adapters else {}),
        "seconds": cost.seconds,
        "gpu_hours": None if hours is None else round(hours, 2),
        "disk_mib": round(cost.disk_mib, 2),
        "remarks": [asdict(remark) for remark in plan.remarks],
    }
