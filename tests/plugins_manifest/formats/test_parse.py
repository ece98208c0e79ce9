"""Parsing against files that peft and diffusers write themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.numpy import save_file

from plugins_manifest.formats.header import read_header
from plugins_manifest.formats.parse import parse
from plugins_manifest.formats.parsed import Header, ParsedPlugin, TensorInfo
from plugins_manifest.formats.table import sd15_table
from tests.plugins_manifest.zoo import ZOO, sd15
from tests.plugins_manifest.zoo.files import pack
from tests.plugins_manifest.zoo.naming import named, peft_parts
from tests.plugins_manifest.zoo.sd15 import LINEAR, TO_K, TO_Q, kohya
from tests.plugins_manifest.zoo.tiny import tiny_table, tiny_unet

WANTED = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1", "time_emb_proj"]


def with_lora(**settings: object) -> UNet2DConditionModel:
    unet = UNet2DConditionModel.from_config(tiny_unet().config)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=WANTED, **settings)
    unet.add_adapter(config)
    return unet


def parsed(path: Path) -> ParsedPlugin:
    return parse(read_header(path), tiny_table())


def targets_of(unet: UNet2DConditionModel) -> set[str]:
    """Return the weights that peft itself has wrapped."""
    return {
        f"unet.{name.removesuffix('.base_layer.weight')}.weight"
        for name, _ in unet.named_parameters()
        if name.endswith(".base_layer.weight")
    }


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_what_diffusers_saves_targets_what_peft_wrapped(tmp_path: Path) -> None:
    unet = with_lora()
    metadata = {"r": 4, "lora_alpha": 6, "use_rslora": False}
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(unet),
        unet_lora_adapter_metadata=metadata,
    )
    found = parsed(next(tmp_path.glob("*.safetensors")))
    assert found.format == "peft"
    assert {change.target for change in found.changes} == targets_of(unet)
    assert {change.alpha for change in found.changes} == {6.0}
    assert (found.unknown_keys, found.problems) == ((), ())


def test_a_bare_file_of_diffusers_has_its_alpha_in_the_metadata(tmp_path: Path) -> None:
    unet = with_lora(use_rslora=True)
    unet.save_lora_adapter(tmp_path)
    found = parsed(next(tmp_path.glob("*.safetensors")))
    assert found.format == "peft-bare"
    assert {change.target for change in found.changes} == targets_of(unet)
    assert {change.alpha for change in found.changes} == {6.0 * 2.0}  # alpha / sqrt(4)
    assert found.problems == ()


def test_what_peft_saves_for_dora_has_magnitudes(tmp_path: Path) -> None:
    unet = with_lora(use_dora=True)
    state = {k: v.detach().numpy() for k, v in get_peft_model_state_dict(unet).items()}
    save_file(state, tmp_path / "dora.safetensors")
    found = parsed(tmp_path / "dora.safetensors")
    assert {change.target for change in found.changes} == targets_of(unet)
    assert {change.formula for change in found.changes} == {"dora"}
    assert all(set(change.parts) == {"down", "up", "magnitude"} for change in found.changes)
    assert (found.unknown_keys, found.problems) == ((), ())


def header_of(data: bytes, tmp_path: Path) -> Header:
    path = tmp_path / "made.safetensors"
    path.write_bytes(data)
    return read_header(path)


def zoo_parsed(name: str, tmp_path: Path) -> ParsedPlugin:
    animal = next(animal for animal in ZOO if animal.name == name)
    return parse(header_of(animal.make(), tmp_path))


def test_alpha_in_a_key_wins_over_the_metadata(tmp_path: Path) -> None:
    content = named(LINEAR, peft_parts, name=str) | {f"{TO_Q}.alpha": sd15.alpha(3.0)}
    settings = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8})}
    found = parse(header_of(pack(content, settings), tmp_path))
    alphas = {change.target: change.alpha for change in found.changes}
    assert alphas[f"{TO_Q}.weight"] is None
    assert alphas[f"{TO_K}.weight"] == 8.0


def test_alpha_patterns_and_rank_stabilization_are_read(tmp_path: Path) -> None:
    found = zoo_parsed("peft-metadata", tmp_path)
    alphas = {change.target: change.alpha for change in found.changes}
    assert alphas[f"{TO_Q}.weight"] == 2.0
    assert alphas[f"{TO_K}.weight"] == 8.0
    assert alphas[f"{sd15.TEXT_Q}.weight"] == 16.0 * 2.0


def test_parts_lead_to_the_keys_of_the_file(tmp_path: Path) -> None:
    found = zoo_parsed("kohya", tmp_path)
    change = next(c for c in found.changes if c.target == f"{TO_Q}.weight")
    name = kohya(TO_Q)
    assert change.parts == {
        "down": f"{name}.lora_down.weight",
        "up": f"{name}.lora_up.weight",
        "alpha": f"{name}.alpha",
    }


def test_old_glora_is_given_today_s_names(tmp_path: Path) -> None:
    old = zoo_parsed("glora-old", tmp_path).changes[0]
    header = header_of(next(a for a in ZOO if a.name == "glora-old").make(), tmp_path)
    shapes = {part: header.tensors[old.parts[part]].shape for part in ("a1", "a2", "b1", "b2")}
    n_out, n_in = sd15_table()[old.target]
    assert shapes == {"a1": (n_in, 4), "a2": (4, n_in), "b1": (n_out, 4), "b2": (4, n_in)}


def test_bundled_embeddings_keep_their_tokens(tmp_path: Path) -> None:
    found = zoo_parsed("bundled-embeddings", tmp_path)
    assert set(found.embeddings) == {"zkz_style", "zkz_neg"}
    assert found.unknown_keys == ()


def test_a_file_for_another_model_names_it_and_the_nearest_modules(tmp_path: Path) -> None:
    found = zoo_parsed("sdxl-lora", tmp_path)
    assert found.base_model == "sdxl"
    assert len(found.changes) == 2  # those of the shallow transformer that fit by chance
    module = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_q"
    assert module.replace("blocks_1_attn", "blocks_0_attn") in found.unmatched[module]


def test_the_same_file_fits_only_the_model_it_was_made_for(tmp_path: Path) -> None:
    header = header_of(pack(named(LINEAR, sd15.lora)), tmp_path)
    assert len(parse(header).changes) == 3
    on_tiny = parse(header, tiny_table())
    assert on_tiny.changes == ()
    assert {problem.reason for problem in on_tiny.problems} == {"bad-shape"}


def test_a_plugin_for_a_model_of_other_text_width_is_told_so() -> None:
    table = {name: shape for name, shape in tiny_table().items() if "attn2" not in name}
    narrow = table | {
        name: (shape[0], 32) if name.endswith(("to_k.weight", "to_v.weight")) else shape
        for name, shape in tiny_table().items()
        if "attn2" in name
    }
    module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    for width, reasons in ((32, set()), (768, {"wrong-base", "bad-shape"})):
        shapes = {"lora_down.weight": (2, width), "lora_up.weight": (32, 2)}
        tensors = {f"{module}.{part}": TensorInfo("F16", s, 0, 0) for part, s in shapes.items()}
        found = parse(Header(tensors, {}, 0, 0), narrow)
        assert {problem.reason for problem in found.problems} == reasons
