"""Claims about variants that share a stage 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from runners.base import PluginFile, RenderCase, Rendered, RenderSettings, Variant
from runners.batches import BatchSize
from runners.families.family import Family
from runners.group import run_group
from tests.runners.conftest import METHODS, SETTINGS
from tests.runners.test_batches import equal_but_rounding

pytestmark = pytest.mark.system

SCALES, T0S = (1.0, 0.5, 0.0), (1 / 3, 2 / 3, 1.0)
SWEEP = [Variant("xadapter", t0=2 / 3, adapter_scale=scale) for scale in SCALES]
GRID = [Variant(m, t0=t0) for t0 in T0S for m in ("sdedit", "xadapter", "xadapter-truncated")]


class Calls:
    """The rows of each call of a model."""

    def __init__(self, model: object) -> None:
        self.rows: list[int] = []
        self.hook = model.register_forward_hook(  # pyright: ignore[reportAttributeAccessIssue]
            lambda _model, inputs, _output: self.rows.append(len(inputs[0]))
        )


def rendered(
    family: Family,
    plugin: PluginFile | None,
    cases: Sequence[RenderCase],
    variants: Sequence[Variant],
    *,
    settings: RenderSettings = SETTINGS,
    batch: BatchSize | None = None,
) -> list[Rendered]:
    found = run_group(family, plugin, cases, variants, settings, methods=METHODS, batch=batch)
    results = list(found)
    assert [result.error for result in results] == [None] * len(results)
    return results


@pytest.mark.parametrize("preset", ["sound", "released"])
def test_adapter_scales_share_the_base_model_s_steps_and_keep_their_pixels(
    family: Family, controlnet: PluginFile, cases: list[RenderCase], preset: str
) -> None:
    settings = replace(SETTINGS, preset=preset)
    base, upgraded = Calls(family.base.unet), Calls(family.upgraded.unet)
    together = rendered(family, controlnet, cases[:2], SWEEP, settings=settings)
    base.hook.remove(), upgraded.hook.remove()
    n_last = 2
    # one prediction with and without the plugin checks its effect; then stage 1, then stage 2 once
    assert base.rows[2:] == [4] * (SETTINGS.steps + n_last)
    assert upgraded.rows == [4] * (n_last * len(SCALES))
    for variant in SWEEP:
        alone = rendered(family, controlnet, cases[:2], [variant], settings=settings)
        own = [result for result in together if result.variant == variant]
        assert [np.array_equal(a.image, b.image) for a, b in zip(own, alone, strict=True)] == [
            True,
            True,
        ]


def test_adapter_scales_have_equal_shares_of_the_seconds(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    results = rendered(family, lora, cases[:1], SWEEP)
    seconds = [result.seconds for result in results]
    assert max(seconds) < 2 * min(seconds)


def test_with_room_for_several_variants_a_call_has_them_all(
    family: Family, controlnet: PluginFile, cases: list[RenderCase]
) -> None:
    alone = rendered(family, controlnet, cases[:2], GRID)
    base, upgraded = Calls(family.base.unet), Calls(family.upgraded.unet)
    together = rendered(family, controlnet, cases[:2], GRID, batch=BatchSize(24, merges=True))
    base.hook.remove(), upgraded.hook.remove()
    assert equal_but_rounding(together, alone)
    # stage 1, then t0 1, 2/3 and 1/3 of two methods; SDEdit and X-Adapter in a call of their own
    assert base.rows[2:] == [4] * SETTINGS.steps + [8, 16, 24]
    assert upgraded.rows == [8, 4, 16, 8, 24, 12]
    by_t0 = {v.t0: r.seconds for v in GRID for r in together if r.variant == v}
    assert by_t0[T0S[0]] < by_t0[T0S[1]] < by_t0[T0S[2]]


def test_without_room_each_call_has_the_images_of_one_variant(
    family: Family, cases: list[RenderCase]
) -> None:
    upgraded = Calls(family.upgraded.unet)
    rendered(family, None, cases[:2], GRID, batch=BatchSize(3, merges=True))
    upgraded.hook.remove()
    assert set(upgraded.rows) == {4}


def test_a_t0_without_a_step_fails_alone(family: Family, cases: list[RenderCase]) -> None:
    variants = [Variant("sdedit", t0=0.2), Variant("sdedit", t0=1.0)]
    settings = replace(SETTINGS, preset="released")
    batch = BatchSize(24, merges=True)
    found = run_group(family, None, cases[:1], variants, settings, methods=METHODS, batch=batch)
    assert [result.error is None for result in found] == [False, True]
