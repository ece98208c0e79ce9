from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from plugins_manifest.errors import UserError
from runners.audit import PluginNotAppliedError
from runners.base import PluginFile
from runners.families.family import Family
from runners.plugins.load import load_plugin
from tests.runners.conftest import lora_for
from tests.runners.kohya import kohya_names, kohya_table
from tests.runners.rewrite import FORMATS, Module, read_modules, rewritten
from tests.runners.weights.claims import random


@pytest.fixture
def state(lora: PluginFile) -> dict[str, Tensor]:
    return load_file(lora.path)


@pytest.fixture
def modules(family: Family, state: dict[str, Tensor]) -> list[Module]:
    unet, text_encoder = family.base.unet, family.base.text_encoder
    return read_modules(state, kohya_names(unet, text_encoder), kohya_table(unet, text_encoder))


class Explosive:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return Path.write_text, (self.path, "executed")


def base_state(family: Family) -> dict[str, Tensor]:
    parts = {"unet": family.base.unet, "text": family.base.text_encoder}
    return {
        f"{name}.{key}": value.clone()
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }


def test_a_lora_changes_exactly_its_modules_and_is_gone_bit_for_bit(
    family: Family, lora: PluginFile
) -> None:
    before = base_state(family)
    names = set(load_file(lora.path))
    with load_plugin(lora, family).attached(family, strength=1.0):
        during = base_state(family)
    after = base_state(family)
    changed = {key for key in before if not torch.equal(before[key], during[key])}
    assert len(changed) == len([name for name in names if name.endswith(".alpha")])
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_lora_is_gone_after_an_exception(family: Family, lora: PluginFile) -> None:
    before = base_state(family)
    plugin = load_plugin(lora, family)
    with pytest.raises(KeyboardInterrupt), plugin.attached(family, strength=1.0):
        raise KeyboardInterrupt
    after = base_state(family)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_every_merged_weight_equals_diffusers_fused_lora(
    family: Family,
    lora: PluginFile,
    state: dict[str, Tensor],
    tmp_path: Path,
    modules: list[Module],
) -> None:
    """Kohya (LoRA and LoCon, text encoder too) and PEFT names, as diffusers and peft fuse them."""
    before = base_state(family)
    for name, reference in (("kohya", state), ("peft", rewritten(modules, "peft"))):
        save_file(reference, tmp_path / f"{name}.safetensors")
        plugin = load_plugin(replace(lora, path=tmp_path / f"{name}.safetensors"), family)
        with plugin.attached(family, strength=0.7):
            ours = base_state(family)
        theirs = fused_by_diffusers(family, reference, 0.7)
        family.base.unet.load_state_dict(part_of(before, "unet"))
        family.base.text_encoder.load_state_dict(part_of(before, "text"))
        for key in before:
            change = (ours[key] - before[key]).double()
            largest = float(change.abs().max())
            assert float((ours[key] - theirs[key]).abs().max()) <= 1e-5 * max(largest, 1e-3), key


def fused_by_diffusers(family: Family, state: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    pipe = family.base
    pipe.load_lora_weights(dict(state), adapter_name="reference")
    pipe.fuse_lora(components=["unet", "text_encoder"], lora_scale=scale)
    pipe.unload_lora_weights()  # forgets how to unfuse, keeps the fused weights
    return base_state(family)


def part_of(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_change_in_every_format_gives_the_same_weights(
    family: Family, lora: PluginFile, modules: list[Module], tmp_path: Path, name: str
) -> None:
    state = rewritten(modules, name)
    save_file(state, tmp_path / "other.safetensors")
    original = load_plugin(lora, family)
    other = load_plugin(replace(lora, path=tmp_path / "other.safetensors"), family)
    assert other.audit.is_complete
    assert sum(row.n_keys for row in other.audit.rows) == len(state)
    before = base_state(family)
    with original.attached(family, strength=1.0):
        wanted = base_state(family)
    with other.attached(family, strength=1.0):
        given = base_state(family)
    for key, value in wanted.items():
        largest = float((value - before[key]).abs().max())
        assert float((value - given[key]).abs().max()) <= 1e-4 * largest + 1e-7, key


def test_formats_without_a_low_rank_are_applied_whole(
    family: Family, lora: PluginFile, tmp_path: Path
) -> None:
    """(IA)3, OFT, BOFT, norms and biases: nothing else can hold what they do."""
    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
    weight = family.base.unet.get_parameter(
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    )
    n = weight.shape[0]
    state = {
        f"{block}_attn1_to_q.weight": random(n, seed=1),
        f"{block}_attn1_to_q.on_input": torch.tensor(0),
        f"{block}_attn1_to_k.weight": random(n, seed=2),
        f"{block}_attn1_to_k.on_input": torch.tensor(1),
        f"{block}_attn1_to_v.oft_blocks": 0.1 * random(n // 4, 4, 4, seed=3),
        f"{block}_attn2_to_q.oft_blocks": 0.1 * random(2, n // 4, 4, 4, seed=4),
        f"{block}_attn2_to_q.rescale": 1 + 0.1 * random(n, 1, seed=5),
        f"{block}_norm1.w_norm": random(n, seed=6),
        f"{block}_norm1.b_norm": random(n, seed=7),
        f"{block}_attn1_to_out_0.diff_b": random(n, seed=8),
    }
    save_file(state, tmp_path / "mixed.safetensors")
    file = replace(lora, kind="lycoris", path=tmp_path / "mixed.safetensors")
    audit = load_plugin(file, family).audit
    assert audit.is_complete and len(audit.rows) == 7
    formulas = sorted(row.formula for row in audit.rows)
    assert formulas == ["boft", "full", "ia3", "ia3", "norm", "norm", "oft"]


def test_a_file_that_fits_in_part_fails_with_the_share_and_every_key_counted(
    family: Family, lora: PluginFile, state: dict[str, Tensor], tmp_path: Path
) -> None:
    kept = {key: part for key, part in state.items() if "mid_block" not in key}
    foreign = {key.replace("mid_block", "middle_block"): part for key, part in state.items()}
    save_file({**foreign, "lora_unet_stranger": torch.ones(2)}, tmp_path / "part.safetensors")
    file = replace(lora, path=tmp_path / "part.safetensors")
    with pytest.raises(
        PluginNotAppliedError, match=r"of \d+ changes applied \(\d+\.\d %\)"
    ) as raised:
        load_plugin(file, family)
    audit, told = raised.value.audit, str(raised.value)
    assert "unmatched-module" in told and "unknown-key" in told and "allow_partial: true" in told
    assert sum(row.n_keys for row in audit.rows) == len(foreign) + 1
    assert audit.n_applied == len(kept) / 3 and raised.value.plugin_id == lora.plugin_id

    partial = load_plugin(replace(file, allow_partial=True), family)
    save_file(kept, tmp_path / "kept.safetensors")
    whole = load_plugin(replace(lora, path=tmp_path / "kept.safetensors"), family)
    with partial.attached(family, strength=1.0):
        given = base_state(family)
    with whole.attached(family, strength=1.0):
        assert all(torch.equal(given[key], value) for key, value in base_state(family).items())
    assert partial.audit == audit and not partial.audit.is_complete and whole.audit.is_complete


def test_nan_fails_and_as_a_part_is_left_out(
    family: Family, lora: PluginFile, state: dict[str, Tensor], tmp_path: Path
) -> None:
    key = next(key for key in state if "mid_block" in key and key.endswith("up.weight"))
    state[key] = state[key].clone().index_fill(0, torch.tensor([0]), float("nan"))
    save_file(state, tmp_path / "nan.safetensors")
    file = replace(lora, path=tmp_path / "nan.safetensors")
    with pytest.raises(PluginNotAppliedError, match="1 non-finite"):
        load_plugin(file, family)
    with load_plugin(replace(file, allow_partial=True), family).attached(family, strength=1.0):
        assert all(torch.isfinite(value).all() for value in base_state(family).values())


def test_an_untrained_file_that_changes_nothing_fails_always(
    family: Family, lora: PluginFile, state: dict[str, Tensor], tmp_path: Path
) -> None:
    zero = {k: torch.zeros_like(v) if k.endswith("up.weight") else v for k, v in state.items()}
    save_file(zero, tmp_path / "zero.safetensors")
    file = replace(lora, path=tmp_path / "zero.safetensors", allow_partial=True)
    with pytest.raises(PluginNotAppliedError, match="every change is zero"):
        load_plugin(file, family)


def test_a_plugin_of_the_upgraded_side_changes_that_side_alone(
    family: Family, lora: PluginFile, tmp_path: Path
) -> None:
    table = kohya_table(family.upgraded.unet, None)
    some = [name for name in table if "attn1_to_q" in name]
    save_file(lora_for(table, some), tmp_path / "up.safetensors")
    file = replace(lora, path=tmp_path / "up.safetensors", side="upgraded")
    before = base_state(family)
    weights = {name: table[name].detach().clone() for name in some}
    plugin = load_plugin(file, family)
    with plugin.attached(family, strength=1.0):
        assert all(not torch.equal(table[name], weight) for name, weight in weights.items())
        assert all(torch.equal(before[key], value) for key, value in base_state(family).items())
    assert all(torch.equal(table[name], weight) for name, weight in weights.items())
    assert plugin.audit.is_complete and plugin.audit.n_applied == len(some)


def test_official_semantics_reach_the_model(
    family: Family, lora: PluginFile, state: dict[str, Tensor], tmp_path: Path
) -> None:
    without = {key: part for key, part in state.items() if not key.endswith(".alpha")}
    save_file(without, tmp_path / "bare.safetensors")
    official = load_plugin(replace(lora, lora_semantics="xadapter-official"), family)
    bare = load_plugin(replace(lora, path=tmp_path / "bare.safetensors"), family)
    with official.attached(family, strength=1.0):
        given = base_state(family)
    with bare.attached(family, strength=1.0):
        assert all(torch.equal(given[key], value) for key, value in base_state(family).items())


def test_embeddings_bundled_in_a_lora_are_attached_with_it(
    family: Family, lora: PluginFile, state: dict[str, Tensor], tmp_path: Path
) -> None:
    width = family.base.text_encoder.config.hidden_size
    key = "bundle_emb.glowstyle.string_to_param.*"
    save_file({**state, key: random(2, width, seed=0)}, tmp_path / "both.safetensors")
    plugin = load_plugin(replace(lora, path=tmp_path / "both.safetensors"), family)
    assert plugin.audit.is_complete and key in {row.module for row in plugin.audit.rows}
    table = family.base.text_encoder.get_input_embeddings()
    with plugin.attached(family, strength=0.5) as attachment:
        assert attachment.rewrite_prompt("a circle, glowstyle") != "a circle, glowstyle"
        vectors = family.base.text_encoder.get_input_embeddings().weight
        assert any(torch.equal(row, random(2, width, seed=0)[1]) for row in vectors)
    assert family.base.text_encoder.get_input_embeddings() is table


def test_a_bundled_embedding_of_another_width_is_a_missing_part(
    family: Family, lora: PluginFile, state: dict[str, Tensor], tmp_path: Path
) -> None:
    state["bundle_emb.glowstyle.string_to_param.*"] = torch.ones(2, 7)
    save_file(state, tmp_path / "both.safetensors")
    with pytest.raises(PluginNotAppliedError, match=r"1 bad-shape .*\(2, 7\)"):
        load_plugin(replace(lora, path=tmp_path / "both.safetensors"), family)


def test_another_kind_of_file_is_named(family: Family, lora: PluginFile, tmp_path: Path) -> None:
    save_file(
        {"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}, tmp_path / "x.safetensors"
    )
    with pytest.raises(UserError, match=r"of kind .*not lora or lycoris"):
        load_plugin(replace(lora, path=tmp_path / "x.safetensors"), family)


@pytest.mark.parametrize("name", ["evil.safetensors", "evil.pt"])
def test_a_pickle_is_refused_and_never_executed(
    family: Family, lora: PluginFile, tmp_path: Path, name: str
) -> None:
    mark, file = tmp_path / "mark", tmp_path / name
    file.write_bytes(pickle.dumps(Explosive(mark)))
    with pytest.raises(UserError, match="not a safetensors file"):
        load_plugin(replace(lora, path=file), family)
    assert not mark.exists()


def test_a_truncated_file_is_told(family: Family, lora: PluginFile, tmp_path: Path) -> None:
    file = tmp_path / "half.safetensors"
    file.write_bytes(lora.path.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"half\.safetensors is not a safetensors file"):
        load_plugin(replace(lora, path=file), family)


def test_a_missing_file_is_told(family: Family, lora: PluginFile, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        load_plugin(replace(lora, path=tmp_path / "none.safetensors"), family)


def test_a_lora_for_another_model_names_the_nearest_modules(
    family: Family, lora: PluginFile, tmp_path: Path
) -> None:
    state = {key.replace("mid_block", "middle_block"): v for key, v in load_file(lora.path).items()}
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"middle_block.*nearest: lora_unet_mid_block"):
        load_plugin(replace(lora, path=tmp_path / "other.safetensors"), family)
