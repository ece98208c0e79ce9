"""LoRA merges equal the recorded ones, under both semantics."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from plugins_manifest.formats.parsed import ModuleChange
from plugins_manifest.schema.words import LoraSemantics
from runners.weights.engine import PluginWeights, merged_weight
from tests.golden.conftest import FORWARD_LIMIT, Case, golden_folder, model, require, worst

MERGED: dict[LoraSemantics, str] = {
    "xadapter-official": "merged_upstream_multiplier_1",
    "standard": "merged_correct_alpha_over_rank",
}
UNET, TEXT = "base_unet.", "base_text_encoder."


def facts() -> dict[str, Any]:
    path = golden_folder() / "lora" / "lora.json"
    if not path.exists():
        pytest.skip(f"no {path}; set XBENCH_GOLDEN")
    return json.loads(path.read_text(encoding="utf-8"))


def weight_name(target: str) -> str:
    return target if target.endswith(".weight") else f"{target}.weight"


def merge(semantics: LoraSemantics) -> dict[str, Tensor]:
    """Return merged weights under the names of their targets."""
    modules = {name: weight_name(m["target"]) for name, m in facts()["modules"].items()}
    weights = {f"{UNET}{k}": v for k, v in model("base_unet").state_dict().items()}
    weights |= {f"{TEXT}{k}": v for k, v in require("models", "base_text_encoder").tensors.items()}
    state = load_file(golden_folder() / "lora" / "lora_kohya.safetensors")
    plugin = PluginWeights(
        tuple(
            ModuleChange(target, "lora", parts_of(name, state)) for name, target in modules.items()
        ),
        state,
        semantics,
    )
    assert sum(len(change.parts) for change in plugin.changes) == len(state)
    strength = facts()["multiplier"]
    return {
        target: merged_weight(plugin, changes, weights[target], strength=strength)
        for target, changes in plugin.by_target().items()
    }


def parts_of(module: str, state: dict[str, Tensor]) -> dict[str, str]:
    """Part -> key of a module in kohya's names."""
    ends = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": "alpha"}
    keys = {part: f"{module}.{end}" for part, end in ends.items()}
    return {part: key for part, key in keys.items() if key in state}


@pytest.mark.parametrize("semantics", list(MERGED))
def test_merged_weights_equal_the_recorded_ones(semantics: LoraSemantics) -> None:
    merged = merge(semantics)
    recorded = load_file(golden_folder() / "lora" / f"{MERGED[semantics]}.safetensors")
    assert len(merged) == len(recorded) == facts()["num_modules"]
    for name, value in recorded.items():
        assert worst(merged[weight_name(name)], value) <= FORWARD_LIMIT, name


@pytest.mark.parametrize("semantics", list(MERGED))
def test_merged_models_give_the_recorded_outputs(semantics: LoraSemantics) -> None:
    merged = merge(semantics)
    case = load_file(golden_folder() / "lora" / "forward.safetensors")
    side = {"xadapter-official": "upstream", "standard": "correct"}[semantics]
    unet = deepcopy(model("base_unet"))
    unet.load_state_dict(part(merged, UNET), strict=False)
    with torch.no_grad():
        output = unet(
            case["sample"],
            facts()["timestep"],
            encoder_hidden_states=case["encoder_hidden_states"],
            return_dict=False,
        )[0]
    assert worst(output, case[f"unet_output_merged_{side}"]) <= FORWARD_LIMIT
    if f"text_merged_{side}" in case:
        encoder = text_encoder(part(merged, TEXT))
        with torch.no_grad():
            hidden = encoder(case["input_ids"]).last_hidden_state
        assert worst(hidden, case[f"text_merged_{side}"]) <= FORWARD_LIMIT


def part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}


def text_encoder(changed: dict[str, Tensor]) -> CLIPTextModel:
    case = Case("models", "base_text_encoder")
    encoder = CLIPTextModel(CLIPTextConfig(**case.json["config"]))
    state = case.tensors | changed
    if any(key.startswith("text_model.") for key in encoder.state_dict()):
        state = {f"text_model.{key}": value for key, value in state.items()}
    encoder.load_state_dict(state)
    return encoder.eval()
