"""Claims about what a run keeps from one group for the next: plugins and encoded prompts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file

from plugins_manifest.content import ChangedFileError, hash_path
from runners.base import PluginFile, RenderCase, Variant
from runners.families.family import Family
from runners.texts import encoded_once
from tests.runners.test_stage2 import Calls, rendered
from xadapter.denoiser import Conditions

BASE, FLOOR = [Variant("base")], [Variant("floor")]


def planned(file: PluginFile, path: Path) -> PluginFile:
    return replace(file, path=path, content_sha256=hash_path(path))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the networks that are built, by the kind of device of their first weights."""
    devices: list[str] = []
    from_config = ControlNetModel.from_config

    def recorded(*args: object, **kwargs: object) -> object:
        net = from_config(*args, **kwargs)
        devices.append(next(net.parameters()).device.type)
        return net

    monkeypatch.setattr(ControlNetModel, "from_config", recorded)
    return devices


def test_a_controlnet_is_built_once_for_consecutive_groups_and_no_weight_is_drawn(
    family: Family, controlnet: PluginFile, cases: list[RenderCase], built: list[str]
) -> None:
    file = planned(controlnet, controlnet.path)
    with torch.random.fork_rng():
        before = torch.random.get_rng_state()
        first, again = (rendered(family, file, cases[:1], BASE) for _ in range(2))
        assert torch.equal(torch.random.get_rng_state(), before)
    assert built == ["meta"]
    assert np.array_equal(first[0].image, again[0].image)
    rendered(family, None, cases[:1], FLOOR)  # another stack: the network is not kept
    rendered(family, file, cases[:1], BASE)
    assert built == ["meta"] * 2


def test_a_kept_plugin_is_refused_once_its_file_has_changed(
    family: Family, lora: PluginFile, cases: list[RenderCase], tmp_path: Path
) -> None:
    tensors = load_file(lora.path)
    path = tmp_path / "lora.safetensors"
    save_file(tensors, path)
    file = planned(lora, path)
    rendered(family, file, cases[:1], BASE)
    save_file({key: 2 * value for key, value in tensors.items()}, path)
    with pytest.raises(ChangedFileError, match="not the planned one"):
        rendered(family, file, cases[:1], BASE)


def test_a_file_without_a_planned_hash_is_read_for_every_group(
    family: Family, controlnet: PluginFile, cases: list[RenderCase], built: list[str]
) -> None:
    for _ in range(2):
        rendered(family, controlnet, cases[:1], BASE)
    assert len(built) == 2


def other(case: RenderCase, word: str) -> RenderCase:
    return replace(case, base_prompt=f"a {word}", upgraded_prompt=f"a {word}", negative_prompt="")


def test_a_prompt_is_encoded_once_for_plugins_that_leave_the_text_encoder_alone(
    family: Family, controlnet: PluginFile, cases: list[RenderCase]
) -> None:
    own = [other(case, "yellow circle") for case in cases[:2]]  # two seeds of one prompt
    variants, file = [*BASE, *FLOOR], planned(controlnet, controlnet.path)
    base, upgraded = Calls(family.base.text_encoder), Calls(family.upgraded.text_encoder)
    first = rendered(family, None, own, variants)
    # the prompt and the empty negative one, for which SDXL has zeros
    assert (len(base.rows), len(upgraded.rows)) == (2, 1)
    again = rendered(family, None, own, variants)
    assert (len(base.rows), len(upgraded.rows)) == (2, 1)
    rendered(family, file, own, variants)
    assert (len(base.rows), len(upgraded.rows)) == (4, 1)  # the check of its effect, twice
    base.hook.remove(), upgraded.hook.remove()
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))


def test_a_plugin_that_changes_the_text_encoder_reads_no_kept_text(
    family: Family, lora: PluginFile, cases: list[RenderCase]
) -> None:
    case = [other(cases[0], "red square")]
    plain = rendered(family, None, case, BASE)
    calls = Calls(family.base.text_encoder)
    changed = rendered(family, lora, case, BASE)
    calls.hook.remove()
    assert calls.rows, "the LoRA changes the text encoder"
    after = rendered(family, None, case, BASE)
    assert np.array_equal(plain[0].image, after[0].image)
    assert not np.array_equal(plain[0].image, changed[0].image)


def test_texts_that_were_not_used_for_longest_are_dropped(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runners.texts._MOST_BYTES", 100)
    encoded: list[str] = []

    def text(name: str) -> Conditions:
        encoded.append(name)
        return Conditions(torch.zeros(10))  # 40 bytes

    for name in ("a", "b", "a", "c", "a", "b"):
        encoded_once(family.base, name, lambda name=name: text(name))
    assert encoded == ["a", "b", "c", "b"]
