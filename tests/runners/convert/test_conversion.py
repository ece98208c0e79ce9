"""Conversions end to end on random pocket models: files that both loaders take, exact resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora.layer import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from plugins_manifest.errors import UserError
from plugins_manifest.schema.words import ConversionWay
from runners.base import PluginFile
from runners.convert import Conversion, Converted, FitPlan, Prompt, Teacher, convert
from runners.convert.closed_form import updates_of
from runners.convert.low_rank import kohya_file
from runners.convert.pairs import pair_modules
from runners.families.family import Family
from runners.plugins import load_plugin
from runners.plugins.weights import WeightPlugin
from runners.weights import parameters_of
from tests.runners.conftest import PROMPTS, SETTINGS, lora_for
from tests.runners.kohya import kohya_table

pytestmark = pytest.mark.system

SETTINGS_2 = replace(SETTINGS, steps=2)
PLAN = FitPlan(steps=2, rank=2, batch=2)


def conversion(
    lora: PluginFile, work: Path, way: ConversionWay = "distill", **changes: Any
) -> Conversion:
    prompts = [Prompt(text, f"{text} red") for text in PROMPTS[:2]]
    one = Conversion(
        lora,
        way,
        prompts,
        "red",
        SETTINGS_2,
        {"upgraded": "0" * 64},
        work,
        plan=PLAN,
    )
    return replace(one, **changes)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("convert")


@pytest.fixture(scope="module")
def random_lora(family: Family, work: Path) -> PluginFile:
    """Return a LoRA of some layers of every kind, the text encoder's too."""
    table = kohya_table(family.base.unet, family.base.text_encoder)
    ends = ("attn1_to_q", "attn2_to_k", "ff_net_2", "conv1", "layers_0_mlp_fc1")
    names = [name for name in table if name.endswith(ends)]
    save_file(lora_for(table, names), work / "old.safetensors")
    return PluginFile("random-lora", "lora", work / "old.safetensors")


@pytest.fixture(scope="module")
def before(family: Family) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in family.upgraded.unet.state_dict().items()}


@pytest.fixture(scope="module")
def distilled(
    random_lora: PluginFile, family: Family, work: Path, before: dict[str, Tensor]
) -> Converted:
    return convert(conversion(random_lora, work), family, work / "out.safetensors")


def test_the_file_says_what_it_is_and_the_upgraded_model_takes_all_of_it(
    distilled: Converted, random_lora: PluginFile
) -> None:
    assert distilled.audit.is_complete and distilled.loss is not None
    with safe_open(distilled.file, "pt") as file:
        about = file.metadata()
    assert about["xbench.method"] == "distill" and about["xbench.teacher"] == "delta"
    assert about["modelspec.trigger_phrase"] == "red"
    assert about["ss_base_model_version"] == "sdxl_base_v1-0"
    assert len(about["xbench.source_sha256"]) == 64
    assert about["ss_network_dim"] == about["xbench.rank"] == "2"


def test_the_model_is_left_as_it_was(
    distilled: Converted, family: Family, before: dict[str, Tensor]
) -> None:
    after = family.upgraded.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert not any(p.requires_grad for p in family.upgraded.unet.parameters())


def changes_by_diffusers(family: Family, file: Path) -> dict[str, Tensor]:
    """Return what diffusers' own loader adds to each weight of the upgraded UNet."""
    pipe = family.upgraded
    pipe.load_lora_weights(load_file(file), adapter_name="converted")
    try:
        layers: dict[str, Any] = {
            name: module
            for name, module in pipe.unet.named_modules()
            if isinstance(module, LoraLayer)
        }
        return {
            f"unet.{name}.weight": layer.get_delta_weight("converted").detach()
            for name, layer in layers.items()
        }
    finally:
        pipe.unload_lora_weights()


def changes_by_us(family: Family, file: Path) -> dict[str, Tensor]:
    """Return what the project's loader adds."""
    plugin = load_plugin(PluginFile("new", "lora", file, side="upgraded"), family)
    own = parameters_of([("unet", family.upgraded.unet)])
    clean = {name: value.detach().clone() for name, value in own.items()}
    with plugin.attached(family, strength=1.0):
        after = {name: value.detach() - clean[name] for name, value in own.items()}
    return {name: change for name, change in after.items() if bool(change.any())}


def assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    assert len(b) > 10
    for name, change in b.items():
        torch.testing.assert_close(a[name], change, atol=2e-6, rtol=1e-4)


def test_diffusers_loads_the_same_changes(distilled: Converted, family: Family) -> None:
    assert_same(changes_by_diffusers(family, distilled.file), changes_by_us(family, distilled.file))


def test_the_same_conversion_again_draws_nothing_and_gives_the_same_file(
    distilled: Converted, random_lora: PluginFile, family: Family, work: Path
) -> None:
    drawn = {path: path.stat().st_mtime_ns for path in work.glob("teacher-*/*")}
    assert len(drawn) == 1
    again = convert(conversion(random_lora, work), family, work / "again.safetensors")
    first, second = load_file(distilled.file), load_file(again.file)
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    longer = conversion(random_lora, work, plan=replace(PLAN, steps=1))
    convert(longer, family, work / "longer.safetensors")
    assert {path: path.stat().st_mtime_ns for path in work.glob("teacher-*/*")} == drawn


def test_the_xadapter_teaches_too(random_lora: PluginFile, family: Family, work: Path) -> None:
    one = conversion(random_lora, work, teacher=Teacher("xadapter", 0.5))
    assert convert(one, family, work / "x.safetensors").audit.is_complete
    assert len(list(work.glob("teacher-*"))) == 2


@pytest.mark.parametrize("way", ["theseus", "random-rotation"])
def test_closed_forms_cross_shapes(
    way: ConversionWay, random_lora: PluginFile, family: Family, work: Path
) -> None:
    out = work / f"{way}.safetensors"
    found = convert(conversion(random_lora, work, way), family, out)
    assert found.audit.is_complete and 0.1 < (found.energy_share or 0) < 1
    assert_same(changes_by_diffusers(family, out), changes_by_us(family, out))
    assert len(list(work.glob("floor-*"))) == 1  # both are compared on the same pictures


@pytest.mark.parametrize("way", ["copy", "prolora"])
def test_ways_for_one_layout_refuse_other_shapes(
    way: ConversionWay, random_lora: PluginFile, family: Family, work: Path
) -> None:
    with pytest.raises(UserError, match=r"one layout|made for this model"):
        convert(conversion(random_lora, work, way), family, work / f"{way}.safetensors")
    assert not (work / f"{way}.safetensors").exists()


def test_on_one_layout_copy_is_the_file_and_prolora_of_equal_models_keeps_most(
    random_lora: PluginFile, family: Family, work: Path
) -> None:
    twins = replace(family, upgraded=family.base, one_layout=True)
    copied = convert(conversion(random_lora, work, "copy"), twins, work / "copy.safetensors")
    own, theirs = load_file(random_lora.path), load_file(copied.file)
    assert own.keys() == theirs.keys() and copied.audit.is_complete
    source = load_plugin(random_lora, twins)
    assert isinstance(source, WeightPlugin)
    updates = updates_of(source, twins)
    found = convert(conversion(random_lora, work, "prolora"), twins, work / "pro.safetensors")
    assert found.audit.is_complete and found.energy_share == pytest.approx(1.0)
    assert found.audit.n_expected == len(updates)


def test_partners_are_at_one_place_and_none_is_taken_twice(family: Family) -> None:
    base, upgraded = family.base.unet, family.upgraded.unet
    names = [n for n, m in base.named_modules() if hasattr(m, "weight")]
    found = pair_modules(base, upgraded, names, source_side=8, target_side=16)
    assert len(found) > 50 and len(set(found.values())) == len(found)
    for old, new in found.items():
        assert old.rpartition(".")[2] == new.rpartition(".")[2]
        assert old.split("_")[0] == new.split("_")[0]
    own = pair_modules(base, base, names, source_side=8, target_side=8)
    assert all(old == new for old, new in own.items()) and len(own) > len(found)


def test_text_encoders_have_the_names_that_kohya_gives_them() -> None:
    update = {"text_encoder_2.encoder.layers.0.mlp.fc1.weight": torch.eye(3)}
    names = {key.split(".")[0] for key in kohya_file(update, rank=1, has_two_encoders=True)}
    assert names == {"lora_te2_text_model_encoder_layers_0_mlp_fc1"}


def test_what_float16_cannot_hold_is_refused() -> None:
    with pytest.raises(UserError, match="float16"):
        kohya_file({"unet.conv_in.weight": 1e12 * torch.eye(3)}, rank=1, has_two_encoders=False)
