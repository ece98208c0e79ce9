"""Stage `released`: the method's straight line, one picture at a time, beside ours.

`xadapter.reference` stands in for the released code. Both run in float32, the only precision of the
reference, with TF32 products where the GPU has them; without a ControlNet, which it does not take.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from gpu_check.measure import (
    PROMPT,
    T0S,
    cases_of,
    deviation,
    family_of,
    seconds_of,
    settings_of,
    size_of,
)
from gpu_check.stages import Row, Setting
from runners.base import Variant
from runners.families import Family
from runners.group import run_group
from xadapter.pipeline import XAdapter
from xadapter.reference import generate

_DTYPE = "float32"
_N_PROMPTS = 4


def released_rows(setting: Setting) -> Iterator[Row]:
    """Yield the times of one picture, and of a sweep of t0 for one prompt and for four."""
    torch.set_float32_matmul_precision("high")
    family, size = family_of(setting, _DTYPE), size_of(setting)
    side, n_steps = 2 * size.base_px, size.n_steps
    base, upgraded, mapper = _pipes_of(family)
    joined = XAdapter.from_pipelines(base, upgraded, mapper)

    def straight(t0: float = 0.8) -> torch.Tensor:
        return generate(
            base, upgraded, mapper, PROMPT, t0=t0, n_steps=n_steps, size_px=(side, side)
        )[1]

    def ours() -> torch.Tensor:
        return joined(PROMPT, t0=0.8, steps=n_steps, width=side, height=side).latents

    relative = deviation(ours(), straight())  # also warms both
    released_s, ours_s = (seconds_of(setting.device, work) for work in (straight, ours))
    yield _row("one picture", released_s, ours_s) | {"deviation": relative}
    sweep_s = seconds_of(setting.device, lambda: [straight(t0) for t0 in T0S])
    for n_prompts in (1, _N_PROMPTS):
        ours_s = seconds_of(setting.device, lambda n=n_prompts: _sweep(family, setting, n))
        name = f"{len(T0S)} t0 x {n_prompts} prompts"
        # one prompt after the other: the loop has no batch
        yield _row(name, sweep_s * n_prompts, ours_s)


def _pipes_of(family: Family) -> tuple[Any, Any, Any]:
    """Return both pipelines and the mapper; the reference is typed for SDXL alone."""
    return family.base, family.upgraded, family.mapper


def _row(what: str, released_s: float, ours_s: float) -> Row:
    return {
        "what": what,
        "dtype": _DTYPE,
        "released_s": round(released_s, 3),
        "ours_s": round(ours_s, 3),
        "times_faster": round(released_s / ours_s, 2),
    }


def _sweep(family: Family, setting: Setting, n_prompts: int) -> None:
    size = size_of(setting)
    settings = settings_of(size, n_steps=size.n_steps, dtype=_DTYPE)
    variants = [Variant("xadapter", t0=t0, adapter_scale=1.0) for t0 in T0S]
    for result in run_group(family, None, cases_of(size, n_prompts), variants, settings):
        if result.error:
            raise RuntimeError(result.error)
