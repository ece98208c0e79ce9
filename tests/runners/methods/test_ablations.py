"""X-Adapter with a part taken away: each part alone, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from runners.base import PluginFile, RenderCase, Stack, Variant
from runners.families.family import Family
from tests.runners.conftest import SETTINGS
from tests.runners.test_group import images, rendered, state_of

pytestmark = pytest.mark.system

FULL, T0 = "xadapter", 2 / 3


def picture(family: Family, stack: Stack, case: RenderCase, method: str, t0: float) -> np.ndarray:
    variant = Variant(method, t0=t0, adapter_scale=1.0)
    return images(rendered(family, stack, [case], [variant]))[variant, 0]


def in_stage(plugin: PluginFile, stages: str) -> PluginFile:
    return replace(plugin, stages=stages, plugin_id=f"{plugin.plugin_id}-{stages}")


@pytest.fixture
def case(cases: list[RenderCase]) -> RenderCase:
    return cases[0]


@pytest.mark.parametrize("method", ["xadapter-unplugged", "xadapter-swapped"])
def test_the_same_plugin_in_both_stages_is_the_full_method(
    family: Family, lora: PluginFile, case: RenderCase, method: str
) -> None:
    split = (in_stage(lora, "first"), in_stage(lora, "second"))
    ours = picture(family, split, case, method, T0)
    assert np.array_equal(ours, picture(family, (lora,), case, FULL, T0))


def test_without_the_plugin_stage_2_still_starts_from_its_picture(
    family: Family, lora: PluginFile, case: RenderCase
) -> None:
    before = state_of(family)
    unplugged = picture(family, (in_stage(lora, "first"),), case, "xadapter-unplugged", T0)
    full, none = (picture(family, stack, case, FULL, T0) for stack in ((lora,), ()))
    assert not np.array_equal(unplugged, full)
    assert not np.array_equal(unplugged, none)
    after = state_of(family)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_stage_2_reads_its_own_prompt(family: Family, lora: PluginFile, case: RenderCase) -> None:
    stack = (in_stage(lora, "first"),)
    other = replace(case, stage2_prompt="a small blue square")
    pictures = [picture(family, stack, c, "xadapter-unplugged", T0) for c in (case, other)]
    assert not np.array_equal(*pictures)
    assert np.array_equal(*(picture(family, (lora,), c, FULL, T0) for c in (case, other)))


def test_a_controlnet_takes_another_s_place(
    family: Family, lora: PluginFile, controlnet: PluginFile, case: RenderCase
) -> None:
    stack = (in_stage(lora, "first"), replace(controlnet, stages="second"))
    swapped = picture(family, stack, case, "xadapter-swapped", T0)
    unplugged = picture(family, stack[:1], case, "xadapter-unplugged", T0)
    assert not np.array_equal(swapped, unplugged)


def test_truncated_is_the_full_method_under_that_setting(
    family: Family, lora: PluginFile, case: RenderCase
) -> None:
    variant = Variant(FULL, t0=T0, adapter_scale=1.0)
    settings = replace(SETTINGS, stage1_mode="truncated")
    setting = images(rendered(family, lora, [case], [variant], settings=settings))[variant, 0]
    assert np.array_equal(picture(family, (lora,), case, "xadapter-truncated", T0), setting)
    assert not np.array_equal(setting, picture(family, (lora,), case, FULL, T0))


def test_a_failed_stage_1_fails_the_variant_and_not_the_group(
    family: Family, lora: PluginFile, case: RenderCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("stage 1 broke")

    monkeypatch.setattr("runners.session.run_stage1", broken)
    stack = (in_stage(lora, "first"),)
    variants = [Variant("xadapter-unplugged", t0=t0, adapter_scale=1.0) for t0 in (0.5, 1.0)]
    results = list(rendered(family, stack, [case], variants))
    assert [result.error for result in results] == ["RuntimeError: stage 1 broke"] * 2
