from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from plugins_manifest.errors import UserError
from runners.base import PluginFile
from runners.families.family import Family
from runners.plugins.load import attach_all, load_plugin


def base_state(family: Family) -> dict[str, Tensor]:
    parts = {"unet": family.base.unet, "text": family.base.text_encoder}
    return {
        f"{name}.{key}": value.clone()
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }


def test_stacked_plugins_are_all_gone(family: Family, lora: PluginFile) -> None:
    before = base_state(family)
    plugin = load_plugin(lora, family)
    with attach_all([plugin, plugin], family, [1.0, -0.3]):
        pass
    after = base_state(family)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_an_unknown_kind_is_told(family: Family, lora: PluginFile) -> None:
    with pytest.raises(UserError, match="hypernetwork"):
        load_plugin(replace(lora, kind="hypernetwork"), family)


def test_a_stack_hands_over_every_control_in_order(
    family: Family, lora: PluginFile, controlnet: PluginFile
) -> None:
    files = (controlnet, lora, replace(controlnet, plugin_id="second"))
    plugins = [load_plugin(file, family) for file in files]
    with attach_all(plugins, family, [0.5, 1.0, 0.25]) as active:
        found = [(control.plugin_id, control.scale) for control in active.controls]
    assert found == [("random-net", 0.5), ("second", 0.25)]
