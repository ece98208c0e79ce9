from __future__ import annotations

import importlib.machinery
import importlib.util
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_controlnet_checkpoint,
    convert_ldm_unet_checkpoint,
)

from plugins_manifest.formats.catalog import CATALOG
from plugins_manifest.formats.names import Names
from plugins_manifest.formats.parse import parse
from plugins_manifest.formats.parsed import Header, TensorInfo
from plugins_manifest.formats.sgm import sgm_modules
from plugins_manifest.formats.table import ModelName, model_table, modules_of, sd15_table
from tests.plugins_manifest.zoo.networks import original_controlnet
from tests.plugins_manifest.zoo.tiny import controlnet_shapes, tiny_table, tiny_unet

ROOT = Path(__file__).resolve().parents[3]
NAMES = Names(sd15_table())
QUICK = ("sd15", "sd21", "sdxl", "chroma", "flux2-dev", "wan21-i2v-14b", "z-image")
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"


def script(name: str) -> object:
    loader = importlib.machinery.SourceFileLoader(name, str(ROOT / "scripts" / name))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated")  # used by diffusers itself
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(model.name, marks=() if model.name in QUICK else pytest.mark.slow)
        for model in CATALOG
    ],
)
def test_the_shipped_tables_are_those_of_the_real_models(model: ModelName) -> None:
    made = script("make-model-tables").parameters(model)  # pyright: ignore[reportAttributeAccessIssue]
    table = model_table(model)
    assert {name: tuple(shape) for name, shape in made.items()} == table
    if model in ("sd15", "sd21", "sdxl"):
        assert list(made) == list(table)


def original_state(table: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Original parameter name -> a tensor that holds the number of its parameter in the table."""
    numbered = {name: i for i, name in enumerate(table)}
    state = {}
    for original, module in sgm_modules(modules_of(table)).items():
        for param in ("weight", "bias"):
            if f"{module}.{param}" in numbered:
                state[f"{original}.{param}"] = torch.tensor(numbered[f"{module}.{param}"])
    return state


@cache
def sdxl_like_table() -> dict[str, tuple[int, ...]]:
    """SDXL's topology (no attention in the first block, deeper ones below), narrow."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(8, 16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 3),
            norm_num_groups=8,
            cross_attention_dim=2048,
            attention_head_dim=(1, 2, 4),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=64,
        )
    return {f"unet.{name}": tuple(p.shape) for name, p in unet.named_parameters()}


TABLES = {
    "sd15": (lambda: dict(sd15_table()), {"layers_per_block": 2}),
    "tiny": (lambda: dict(tiny_table()), {"layers_per_block": 1}),
    "sdxl": (sdxl_like_table, {"layers_per_block": 2, "addition_embed_type": "text_time"}),
}


@pytest.mark.parametrize("which", TABLES)
def test_original_names_are_those_that_diffusers_converts(which: str) -> None:
    make, config = TABLES[which]
    table = make()
    state = {f"model.diffusion_model.{name}": v for name, v in original_state(table).items()}
    converted = convert_ldm_unet_checkpoint(state, config)
    wanted = [name for name in table if name.startswith("unet.")]
    order = list(table)
    assert {f"unet.{name}": order[int(i)] for name, i in converted.items()} == {
        name: name for name in wanted
    }


def test_original_controlnet_names_are_those_that_diffusers_converts() -> None:
    state = {key: torch.from_numpy(value) for key, value in original_controlnet().items()}
    converted = convert_controlnet_checkpoint(state, dict(tiny_unet().config))
    wanted = controlnet_shapes()
    assert {name: tuple(value.shape) for name, value in converted.items()} == wanted


def test_a_real_sd15_controlnet_has_every_key_that_is_expected() -> None:
    from diffusers import ControlNetModel

    with torch.device("meta"):
        net = ControlNetModel(cross_attention_dim=768)
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    header = Header({k: TensorInfo("F16", s, 0, 0) for k, s in shapes.items()}, {}, 0, 0)
    parsed = parse(header)
    assert (parsed.base_model, parsed.problems, len(parsed.other_keys)) == ("sd1", (), 340)


def test_the_second_text_encoder_is_found_where_the_model_has_one() -> None:
    module = "text_encoder_2.encoder.layers.3.mlp.fc1"
    names = Names({f"{module}.weight": (8, 8), "unet.conv_in.weight": (4, 4, 3, 3)})
    assert names.resolve("lora_te2_text_model_encoder_layers_3_mlp_fc1").module == module
    assert names.resolve("text_encoder_2.text_model.encoder.layers.3.mlp.fc1").module == module
    assert names.resolve("lora_te1_text_model_encoder_layers_3_mlp_fc1").module is None
    near = names.nearest("lora_te2_text_model_encoder_layers_3_mlp_fc2")
    assert near[0] == "lora_te2_text_model_encoder_layers_3_mlp_fc1"


def test_every_module_has_one_kohya_name_and_is_found_by_it() -> None:
    modules = modules_of(sd15_table())
    flat = {f"lora_{module.replace('.', '_')}" for module in modules if module.startswith("unet")}
    assert len(flat) == 391
    for module in modules:
        side, _, rest = module.partition(".")
        prefix = "lora_unet_" if side == "unet" else "lora_te_text_model_"
        assert NAMES.resolve(prefix + rest.replace(".", "_")).module == module


@pytest.mark.parametrize(
    ("written", "module"),
    [
        ("lora_unet_input_blocks_1_1_proj_in", "unet.down_blocks.0.attentions.0.proj_in"),
        (
            "lora_unet_input_blocks_10_0_emb_layers_1",
            "unet.down_blocks.3.resnets.0.time_emb_proj",
        ),
        ("lora_unet_input_blocks_11_0_in_layers_2", "unet.down_blocks.3.resnets.1.conv1"),
        ("lora_unet_output_blocks_2_1_conv", "unet.up_blocks.0.upsamplers.0.conv"),
        ("lora_unet_output_blocks_8_2_conv", "unet.up_blocks.2.upsamplers.0.conv"),
        ("lora_unet_middle_block_2_out_layers_3", "unet.mid_block.resnets.1.conv2"),
        ("lora_te1_text_model_encoder_layers_2_mlp_fc2", "text_encoder.encoder.layers.2.mlp.fc2"),
        ("lora_te2_text_model_encoder_layers_2_mlp_fc2", None),
        ("lora_unet_input_blocks_1", None),
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_1_attn1_to_q", None),
        (f"unet.{BLOCK}.attn1.to_out", f"unet.{BLOCK}.attn1.to_out.0"),
        (f"base_model.model.{BLOCK}.attn1.to_q", f"unet.{BLOCK}.attn1.to_q"),
        (f"base_model.model.unet.{BLOCK}.attn1.to_q", f"unet.{BLOCK}.attn1.to_q"),
        (
            "base_model.model.text_model.encoder.layers.0.self_attn.q_proj",
            "text_encoder.encoder.layers.0.self_attn.q_proj",
        ),
        ("diffusion_model.input_blocks.0.0", "unet.conv_in"),
        ("model.diffusion_model.out.2", "unet.conv_out"),
        ("text_encoder_2.text_model.encoder.layers.0.mlp.fc1", None),
        ("", None),
    ],
)
def test_names_are_found_exactly_or_not_at_all(written: str, module: str | None) -> None:
    assert NAMES.resolve(written).module == module


@pytest.mark.parametrize(
    ("written", "nearest"),
    [
        (
            "lora_unet_down_blocks_0_atentions_0_proj_in",
            "lora_unet_down_blocks_0_attentions_0_proj_in",
        ),
        ("unet.mid_blocks.resnets.0.conv1", "unet.mid_block.resnets.0.conv1"),
        (
            "lora_te_text_model_encoder_layers_12_mlp_fc1",
            "lora_te_text_model_encoder_layers_11_mlp_fc1",
        ),
    ],
)
def test_unknown_modules_are_told_the_nearest_in_their_own_spelling(
    written: str, nearest: str
) -> None:
    assert NAMES.resolve(written).module is None
    assert nearest in NAMES.nearest(written)
