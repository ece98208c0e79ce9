from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from plugins_manifest.errors import UserError
from plugins_manifest.formats.side_files import NETWORK_NAMES
from runners.base import PluginFile
from runners.families.family import Family
from runners.plugins.load import load_plugin


def test_a_controlnet_is_handed_over_with_its_strength(
    family: Family, controlnet: PluginFile
) -> None:
    with load_plugin(controlnet, family).attached(family, strength=0.4) as active:
        (control,) = active.controls
        assert control.scale == 0.4
        assert control.plugin_id == controlnet.plugin_id


def test_a_controlnet_with_missing_keys_fails_and_never_draws_weights(
    family: Family, controlnet: PluginFile, tmp_path: Path
) -> None:
    folder = tmp_path / "net"
    shutil.copytree(controlnet.path, folder)
    state = load_file(folder / NETWORK_NAMES[0])
    del state["controlnet_mid_block.weight"]
    state["extra.weight"] = torch.zeros(1)
    save_file(state, folder / NETWORK_NAMES[0])
    with pytest.raises(UserError, match=r"missing keys.*controlnet_mid_block\.weight") as raised:
        load_plugin(replace(controlnet, path=folder), family)
    assert "extra.weight" in str(raised.value)


def test_a_controlnet_for_another_base_model_is_refused_with_both_numbers(
    family: Family, controlnet: PluginFile, tmp_path: Path
) -> None:
    from diffusers import ControlNetModel

    config = json.loads((controlnet.path / "config.json").read_text(encoding="utf-8"))
    config["cross_attention_dim"] = 32
    ControlNetModel.from_config(config).save_pretrained(tmp_path / "net")
    with pytest.raises(UserError, match=r"cross_attention_dim 32.*64"):
        load_plugin(replace(controlnet, path=tmp_path / "net"), family)


def test_a_folder_without_weights_is_no_controlnet(
    family: Family, controlnet: PluginFile, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        load_plugin(replace(controlnet, path=tmp_path), family)
