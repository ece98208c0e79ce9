"""Several plugins at once: on the base side, and beside them on the upgraded side (remix)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from plugins_manifest.errors import UserError
from pocket import models
from runners.base import PluginFile, RenderCase, Stack, Variant
from runners.families.family import Family
from tests.runners.conftest import lora_for, randomized
from tests.runners.kohya import kohya_table
from tests.runners.test_group import images, rendered, state_of

pytestmark = pytest.mark.system

BASE, FLOOR = Variant("base"), Variant("floor")
SDEDIT = Variant("sdedit", t0=0.7)
XADAPTER = Variant("xadapter", t0=0.7, adapter_scale=1.0)


def picture(
    family: Family, plugin: PluginFile | Stack | None, case: RenderCase, variant: Variant
) -> np.ndarray:
    return images(rendered(family, plugin, [case], [variant]))[variant, 0]


def pictures(
    family: Family, plugin: PluginFile | Stack, case: RenderCase, variants: Sequence[Variant]
) -> dict[Variant, np.ndarray]:
    found = images(rendered(family, plugin, [case], variants))
    return {variant: found[variant, 0] for variant in variants}


@pytest.fixture
def case(cases: list[RenderCase]) -> RenderCase:
    return cases[0]


@pytest.fixture
def upgraded_lora(family: Family, tmp_path: Path) -> PluginFile:
    """Random factors for some modules of the upgraded UNet."""
    table = kohya_table(family.upgraded.unet, None)
    path = tmp_path / "upgraded.safetensors"
    save_file(lora_for(table, [name for name in table if "attn2" in name]), path)
    return PluginFile("upgraded-lora", "lora", path, side="upgraded")


@pytest.fixture
def upgraded_net(family: Family, tmp_path: Path) -> PluginFile:
    """Return a random ControlNet for the upgraded UNet."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = models.build_controlnet(family.upgraded.unet)
    randomized(net, 4).save_pretrained(tmp_path / "net")
    return PluginFile(
        "upgraded-net", "controlnet", tmp_path / "net", condition="canny", side="upgraded"
    )


def test_both_plugins_of_a_stack_act_and_are_gone_afterwards(
    family: Family, lora: PluginFile, controlnet: PluginFile, case: RenderCase
) -> None:
    before = state_of(family)
    both = picture(family, (lora, controlnet), case, BASE)
    for alone in (lora, controlnet):
        assert not np.array_equal(both, picture(family, alone, case, BASE))
    after = state_of(family)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_member_of_weight_zero_changes_nothing(
    family: Family, lora: PluginFile, controlnet: PluginFile, case: RenderCase
) -> None:
    silent = replace(lora, weight=0.0)
    stacked = picture(family, (silent, controlnet), case, BASE)
    assert np.array_equal(stacked, picture(family, controlnet, case, BASE))


def test_two_controlnets_with_scales_add_up(
    family: Family, controlnet: PluginFile, case: RenderCase
) -> None:
    """The same network twice at half its scale is the network once, up to rounding."""
    halves = tuple(replace(controlnet, plugin_id=name, weight=0.5) for name in ("one", "two"))
    twice = picture(family, halves, case, BASE).astype(int)
    assert np.abs(twice - picture(family, controlnet, case, BASE)).max() <= 1


def test_each_controlnet_sees_its_own_condition(
    family: Family, controlnet: PluginFile, case: RenderCase
) -> None:
    stack = tuple(replace(controlnet, plugin_id=name, weight=0.5) for name in ("one", "two"))
    assert case.condition is not None
    other = 255 - case.condition
    shown = {}
    for name, second in (("same", case.condition), ("other", other)):
        given = replace(case, condition=None, conditions={"one": case.condition, "two": second})
        shown[name] = picture(family, stack, given, BASE)
    assert not np.array_equal(shown["same"], shown["other"])


def test_a_missing_condition_names_its_plugin(
    family: Family, controlnet: PluginFile, case: RenderCase
) -> None:
    stack = (controlnet, replace(controlnet, plugin_id="second"))
    given = replace(case, condition=None, conditions={"random-net": case.condition})
    with pytest.raises(UserError, match="second needs a condition image"):
        rendered(family, stack, [given], [BASE])


def test_an_upgraded_plugin_acts_wherever_the_upgraded_model_does(
    family: Family, lora: PluginFile, upgraded_lora: PluginFile, case: RenderCase
) -> None:
    before = state_of(family)
    plain = pictures(family, lora, case, [BASE, SDEDIT, XADAPTER, FLOOR])
    remix = pictures(family, (lora, upgraded_lora), case, [BASE, SDEDIT, XADAPTER, FLOOR])
    assert np.array_equal(plain[BASE], remix[BASE])
    for variant in (SDEDIT, XADAPTER, FLOOR):
        assert not np.array_equal(plain[variant], remix[variant]), variant
    after = state_of(family)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_an_upgraded_plugin_keeps_its_weight_whatever_the_plugin_scale(
    family: Family, lora: PluginFile, upgraded_lora: PluginFile, case: RenderCase
) -> None:
    off = replace(SDEDIT, plugin_scale=0.0)
    silent = replace(lora, weight=0.0)
    scaled = picture(family, (lora, upgraded_lora), case, off)
    assert np.array_equal(scaled, picture(family, (silent, upgraded_lora), case, SDEDIT))
    assert not np.array_equal(scaled, picture(family, lora, case, off))


def test_an_upgraded_controlnet_steers_the_upgraded_model_alone(
    family: Family, lora: PluginFile, upgraded_net: PluginFile, case: RenderCase
) -> None:
    rng = np.random.default_rng(1)
    large = rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)
    given = replace(case, condition=None, conditions={"upgraded-net": large})
    plain = pictures(family, lora, given, [BASE, XADAPTER, FLOOR])
    remix = pictures(family, (lora, upgraded_net), given, [BASE, XADAPTER, FLOOR])
    assert np.array_equal(plain[BASE], remix[BASE])
    assert not np.array_equal(plain[XADAPTER], remix[XADAPTER])
    assert not np.array_equal(plain[FLOOR], remix[FLOOR])


def test_a_negative_prompt_of_the_base_side_leaves_the_upgraded_side_alone(
    family: Family, lora: PluginFile, case: RenderCase
) -> None:
    own = replace(case, base_negative_prompt="a blue star")
    plain = pictures(family, lora, case, [BASE, FLOOR])
    changed = pictures(family, lora, own, [BASE, FLOOR])
    assert not np.array_equal(plain[BASE], changed[BASE])
    assert np.array_equal(plain[FLOOR], changed[FLOOR])


def test_oracle_is_the_upgraded_model_with_its_own_plugin(
    family: Family, upgraded_lora: PluginFile, case: RenderCase
) -> None:
    oracle = picture(family, upgraded_lora, case, Variant("oracle"))
    assert np.array_equal(oracle, picture(family, upgraded_lora, case, FLOOR))
    assert not np.array_equal(oracle, picture(family, None, case, Variant("oracle")))
