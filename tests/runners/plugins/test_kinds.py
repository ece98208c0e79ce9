"""Every kind of plugin through every method, gone without a trace afterwards, and audited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from plugins_manifest.errors import UserError
from runners.audit import PluginNotAppliedError
from runners.base import PluginFile, RenderCase, Variant
from runners.families.family import Family
from runners.group import run_group
from runners.plugins.effect import OUTPUT
from runners.plugins.load import load_plugin
from tests.runners.conftest import METHODS, SETTINGS
from tests.runners.kinds import (
    TEXT_WIDTH,
    WORD,
    assert_untouched,
    drawn,
    parts_of,
    save_ip_adapter,
    save_t2i,
)

KINDS = ("controlnet", "t2i-adapter", "ip-adapter", "textual-inversion")


@pytest.fixture(scope="module")
def plugins(
    family: Family, folders: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, PluginFile]:
    root = tmp_path_factory.mktemp("kinds")
    save_t2i(root / "t2i")
    save_file({"emb_params": 0.5 * drawn(0, 2, TEXT_WIDTH)}, root / "ti.safetensors")
    paths = {
        "controlnet": folders / "controlnet",
        "t2i-adapter": root / "t2i",
        "ip-adapter": save_ip_adapter(root / "ip", family.base.unet),
        "textual-inversion": root / "ti.safetensors",
    }
    return {
        kind: PluginFile(kind, kind, path, token=WORD if kind == KINDS[3] else None)
        for kind, path in paths.items()
    }


@pytest.fixture
def told(cases: list[RenderCase]) -> list[RenderCase]:
    """One case that has all that any kind needs."""
    reference = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    prompt = f"{cases[0].base_prompt} {WORD}"
    return [replace(cases[0], base_prompt=prompt, reference=reference)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_moves_base_sdedit_and_xadapter(
    family: Family, plugins: Mapping[str, PluginFile], told: list[RenderCase], kind: str
) -> None:
    variants = [
        Variant("base"),
        Variant("sdedit", t0=0.7),
        Variant("xadapter", t0=1.0, adapter_scale=1.0),
        Variant("floor"),
    ]
    before = parts_of(family)
    pictures = [
        [r.image for r in run_group(family, p, told, variants, SETTINGS, methods=METHODS)]
        for p in (None, plugins[kind])
    ]
    assert_untouched(before, family)
    same = [np.array_equal(a, b) for a, b in zip(*pictures, strict=True) if a is not None]
    assert same == [False, False, False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_gone_after_an_exception(
    family: Family, plugins: Mapping[str, PluginFile], kind: str
) -> None:
    plugin, before = load_plugin(plugins[kind], family), parts_of(family)
    with pytest.raises(KeyboardInterrupt), plugin.attached(family, strength=0.5):
        raise KeyboardInterrupt
    assert_untouched(before, family)


@pytest.mark.parametrize("kind", KINDS)
def test_the_audit_counts_every_key_and_a_change_of_the_output(
    family: Family, plugins: Mapping[str, PluginFile], kind: str
) -> None:
    audit = load_plugin(plugins[kind], family).audit
    assert audit.is_complete
    assert audit.share == 1.0
    path = plugins[kind].path
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    assert sum(row.n_keys for row in audit.rows) == len(load_file(files[0]))
    output = next(row for row in audit.rows if row.module == OUTPUT)
    assert output.applied is not None and output.applied > 1e-4


@pytest.mark.parametrize("kind", ["controlnet", "t2i-adapter", "ip-adapter"])
def test_missing_unknown_and_misshapen_keys_are_told_together(
    family: Family, plugins: Mapping[str, PluginFile], kind: str, tmp_path: Path
) -> None:
    path = plugins[kind].path
    original = next(path.glob("*.safetensors")) if path.is_dir() else path
    state = load_file(original)
    keys = sorted(key for key in state if "proj.weight" not in key)
    state["unheard.of.weight"] = torch.zeros(1)
    state[keys[0]] = torch.zeros(1, 2)
    del state[keys[1]]
    broken = tmp_path / original.name
    save_file(state, broken)
    with pytest.raises(PluginNotAppliedError) as raised:
        load_plugin(replace(plugins[kind], path=broken), family)
    for words in ("1 missing keys", keys[1].rpartition(".")[2], "unheard.of.weight", "(1, 2)"):
        assert words in str(raised.value)
    reasons = {row.reason for row in raised.value.audit.rows}
    assert reasons == {None, "missing-key", "unknown-key", "bad-shape"}
    assert 0 < raised.value.audit.share < 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_plugin_that_changes_nothing_and_one_with_nan_are_refused(
    family: Family, plugins: Mapping[str, PluginFile], kind: str, tmp_path: Path
) -> None:
    path = plugins[kind].path
    original = next(path.glob("*.safetensors")) if path.is_dir() else path
    state = load_file(original)
    nan = {**state, next(iter(state)): torch.full_like(next(iter(state.values())), torch.nan)}
    save_file(nan, tmp_path / "nan.safetensors")
    with pytest.raises(PluginNotAppliedError, match="NaN"):
        load_plugin(replace(plugins[kind], path=tmp_path / "nan.safetensors"), family)
    if kind == "textual-inversion":
        return  # a vector of zeros is still another word
    last = {"controlnet": "controlnet_", "t2i-adapter": "", "ip-adapter": "to_v_ip"}[kind]
    zero = {k: torch.zeros_like(v) if last in k else v for k, v in state.items()}
    save_file(zero, original.with_name("zero.safetensors"))
    with pytest.raises(PluginNotAppliedError, match="changes nothing") as raised:
        load_plugin(replace(plugins[kind], path=original.with_name("zero.safetensors")), family)
    original.with_name("zero.safetensors").unlink()
    assert not raised.value.audit.is_complete


@pytest.mark.parametrize("kind", KINDS[1:])
def test_kinds_of_the_base_side_are_refused_on_an_upgraded_one_of_another_layout(
    family: Family, plugins: Mapping[str, PluginFile], kind: str
) -> None:
    reasons = {
        "t2i-adapter": "not made for the upgraded model",
        "ip-adapter": "use an IP-Adapter for this model",
        "textual-inversion": "has two text encoders",
    }
    with pytest.raises(UserError, match=reasons[kind]):
        load_plugin(replace(plugins[kind], side="upgraded"), family)


def test_all_kinds_together_are_gone_too(
    family: Family, plugins: Mapping[str, PluginFile], told: list[RenderCase]
) -> None:
    before, stack = parts_of(family), tuple(plugins.values())
    (result,) = run_group(family, stack, told, [Variant("base")], SETTINGS, methods=METHODS)
    assert result.image is not None
    assert_untouched(before, family)
