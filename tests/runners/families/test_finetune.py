"""Families of one layout: what their user may name, and what is wrong with it, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins_manifest.errors import UserError
from pocket.weights import part_path
from runners.families import family_traits, find_family
from runners.families.stable_diffusion import SD15_FINETUNE, SDXL_FINETUNE

BASE, UPGRADED = "XBENCH_SD15_FINETUNE_BASE", "XBENCH_SD15_FINETUNE_UPGRADED"
PIN = f"someone/checkpoint@{'a' * 40}"


def problems() -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        SD15_FINETUNE.fingerprint(None)
    return caught.value.problems


def test_the_upgraded_checkpoint_has_to_be_named() -> None:
    (problem,) = problems()
    assert UPGRADED in problem


def test_every_mistake_comes_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pickled = tmp_path / "model.ckpt"
    pickled.touch()
    monkeypatch.setenv(BASE, str(part_path("upgraded")))
    monkeypatch.setenv(UPGRADED, str(pickled))
    with pytest.raises(UserError) as caught:
        SD15_FINETUNE.fingerprint(tmp_path)
    no_mapper, base, upgraded = caught.value.problems
    assert "there is no mapper" in no_mapper
    assert BASE in base
    assert "StableDiffusionXLPipeline" in base
    assert UPGRADED in upgraded
    assert ".safetensors" in upgraded


@pytest.mark.parametrize("value", [PIN, f"{PIN}/model.safetensors"])
def test_a_pin_of_the_hub_is_a_checkpoint(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UPGRADED, value)
    assert SD15_FINETUNE.fingerprint(None).keys() == {"base", "upgraded"}
    (upgraded,) = (p for p in SD15_FINETUNE.sources(None) if p.what == "upgraded model")
    assert upgraded.source == "hf://someone/checkpoint"


def test_local_folders_load_as_one_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BASE, str(part_path("base")))
    monkeypatch.setenv(UPGRADED, str(part_path("base")))
    family = SD15_FINETUNE.load(device="cpu", dtype="float32", adapter=None)
    assert family.one_layout


def test_both_sides_may_be_sdxl(monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("BASE", "UPGRADED"):
        monkeypatch.setenv(f"XBENCH_SDXL_FINETUNE_{side}", str(part_path("upgraded")))
    monkeypatch.setenv("XBENCH_SDXL_FINETUNE_UPGRADED_VAE", "")
    family = SDXL_FINETUNE.load(device="cpu", dtype="float32", adapter=None)
    assert type(family.base).__name__ == type(family.upgraded).__name__
    assert type(family.base).__name__ == "StableDiffusionXLPipeline"


@pytest.mark.parametrize("name", ["sd15-finetune", "sdxl-finetune", "pocket-near", "pocket-far"])
def test_they_have_no_mapper_and_equal_sizes(name: str) -> None:
    traits = family_traits(name)
    assert traits.one_layout
    assert traits.default_settings["base_size"] == traits.default_settings["upgraded_size"]
    problem = find_family(name).mapper_problem(None)
    assert problem is not None
    assert "direct" in problem.how
