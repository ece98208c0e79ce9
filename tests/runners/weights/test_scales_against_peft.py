"""Adapters that PEFT saved, with every option that decides their scale, equal PEFT's own merge."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from plugins_manifest.errors import UserError
from plugins_manifest.formats import parse
from plugins_manifest.formats.side_files import read_plugin
from runners.base import PluginFile
from runners.families.family import Family
from runners.plugins.load import load_plugin
from runners.plugins.opened import side_parameters

LIMIT = 1e-5
# peft warns of biases and of what transformers deprecates
pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Case:
    """A configuration, and the model that it is trained on."""

    config: Any
    model: str = "unet"
    side: str = "base"


def lora(**options: Any) -> Any:
    targets = options.pop("targets", ["to_q", "to_k", "conv1"])
    return peft.LoraConfig(r=4, target_modules=targets, **options)


CASES = {
    "alpha": Case(lora(lora_alpha=8)),
    "default-alpha": Case(lora()),
    "rank-stabilized": Case(lora(lora_alpha=8, use_rslora=True)),
    "alpha-by-name": Case(lora(lora_alpha=4, alpha_pattern={"attn1.to_q": 12})),
    "alpha-by-expression": Case(lora(lora_alpha=4, alpha_pattern={".*attn1.*": 12, "to_(q|k)": 2})),
    "rank-by-expression": Case(
        lora(lora_alpha=6, rank_pattern={"down_blocks.*to_q": 2, r"attn[12]\.to_k": 3})
    ),
    "dora": Case(lora(lora_alpha=8, use_dora=True, targets=["to_q", "to_k"])),
    "bias-of-b": Case(lora(lora_alpha=8, lora_bias=True, targets=["conv1", "conv2"])),
    "trained-biases": Case(lora(lora_alpha=8, bias="all", targets=["conv1"])),
    "saved-modules": Case(lora(lora_alpha=8, modules_to_save=["conv_in", "conv_norm_out"])),
    "text": Case(
        lora(lora_alpha=12, targets=["q_proj", "fc1"], alpha_pattern={"layers.0.mlp.fc1": 2}),
        model="text_encoder",
    ),
    "upgraded": Case(lora(lora_alpha=8), side="upgraded"),
    "loha": Case(peft.LoHaConfig(r=4, alpha=8, target_modules=["to_q", "conv1"])),
    "lokr": Case(peft.LoKrConfig(r=2, alpha=6, target_modules=["to_q", "to_k"])),
    "lokr-whole": Case(peft.LoKrConfig(r=64, alpha=16, target_modules=["to_q"])),
}


def randomized(model: nn.Module) -> None:
    """Give every adapter weight a value, so that none is lost unnoticed."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                around = weight if "magnitude" in name or "modules_to_save" in name else 0 * weight
                weight.copy_(around + 0.1 * torch.randn(weight.shape, generator=generator))


def bare(state: dict[str, Tensor], model: str) -> dict[str, Tensor]:
    return {f"{model}.{name.removeprefix('text_model.')}": v.clone() for name, v in state.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_folder_of_peft_changes_the_weights_as_peft_does(
    family: Family, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    pipe: Any = family.base if case.side == "base" else family.upgraded
    original = getattr(pipe, case.model)
    model = peft.PeftModel(copy.deepcopy(original), copy.deepcopy(case.config))
    randomized(model)
    model.save_pretrained(str(tmp_path / "adapter"))
    merged = model.merge_and_unload()
    wanted = bare(dict(merged.named_parameters()), case.model)
    file = PluginFile(name, "lycoris", tmp_path / "adapter", side=case.side)  # pyright: ignore[reportArgumentType]
    targets = side_parameters(file, family)
    before = {key: value.detach().clone() for key, value in targets.items()}
    with load_plugin(file, family).attached(family, strength=1.0):
        given = {key: value.detach().clone() for key, value in targets.items()}
    changed = [key for key in wanted if not torch.equal(wanted[key], before[key])]
    assert changed
    for key in wanted:
        scale = float((wanted[key] - before[key]).abs().max()) or 1.0
        assert float((given[key] - wanted[key]).abs().max()) / scale < LIMIT, key


def test_the_same_file_in_a_flat_folder_is_not_scaled_by_another_s_configuration(
    family: Family, tmp_path: Path
) -> None:
    model = peft.PeftModel(copy.deepcopy(family.base.unet), lora(lora_alpha=16))
    model.save_pretrained(str(tmp_path))
    renamed = tmp_path / "mine.safetensors"
    (tmp_path / "adapter_model.safetensors").rename(renamed)
    alone = parse(read_plugin(renamed))
    (tmp_path / "other.safetensors").write_bytes(renamed.read_bytes())
    header = read_plugin(renamed)
    assert header.settings is None
    table = {
        key: tuple(value.shape)
        for key, value in side_parameters(PluginFile("x", "lora", renamed), family).items()
    }
    assert {change.alpha for change in parse(header, table).changes} == {None}
    assert any("adapter_config.json" in note for note in parse(header, table).notes)
    assert alone.notes == ()


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"init_lora_weights": "pissa"}, "path_initial_model_for_weight_conversion"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"r": 5}, "rank 5"),
        ({"lora_alpha": "eight"}, "not a number"),
        ({"alpha_pattern": {"to_(q": 3}}, "not a regular expression"),
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "ADALORA"}, "ADALORA"),
    ],
)
def test_settings_that_cannot_be_followed_refuse_the_file(
    family: Family, tmp_path: Path, setting: dict[str, Any], word: str
) -> None:
    model = peft.PeftModel(copy.deepcopy(family.base.unet), lora(lora_alpha=16))
    randomized(model)
    model.save_pretrained(str(tmp_path))
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | setting))
    file = PluginFile("p", "lora", tmp_path, allow_partial=True)
    with pytest.raises(UserError) as caught:
        load_plugin(file, family)
    assert word in str(caught.value)
