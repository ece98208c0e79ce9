from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from plugins_manifest.errors import UserError
from runners.base import PluginFile, RenderCase, Variant
from runners.families.family import Family
from runners.group import run_group
from runners.plugins.ip_adapter import load_ip_adapter
from tests.runners.conftest import METHODS, SETTINGS
from tests.runners.kinds import assert_close, save_ip_adapter, stage1_latents


@pytest.fixture
def adapter(family: Family, tmp_path: Path) -> PluginFile:
    return PluginFile("ip", "ip-adapter", save_ip_adapter(tmp_path, family.base.unet))


def with_references(cases: list[RenderCase]) -> list[RenderCase]:
    rng = np.random.default_rng(2)
    return [replace(c, reference=rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)) for c in cases]


def test_each_image_has_its_own_reference_whatever_the_batch(
    family: Family, adapter: PluginFile, cases: list[RenderCase]
) -> None:
    given = with_references(cases[:2])
    together = stage1_latents(family, adapter, given)
    alone = [stage1_latents(family, adapter, [case]) for case in given]
    assert_close(together, torch.cat(alone))
    swapped = [replace(a, reference=b.reference) for a, b in zip(given, given[::-1], strict=True)]
    assert not torch.allclose(together, stage1_latents(family, adapter, swapped), atol=1e-3)


def test_scale_zero_is_the_model_alone(
    family: Family, adapter: PluginFile, cases: list[RenderCase]
) -> None:
    given = with_references(cases[:1])
    silent = stage1_latents(family, adapter, given, scale=0.0)
    assert_close(silent, stage1_latents(family, None, given), to=1e-6)


def test_a_second_image_prompt_in_a_stack_is_refused(
    family: Family, adapter: PluginFile, cases: list[RenderCase]
) -> None:
    stack = (adapter, replace(adapter, plugin_id="twin"))
    given = with_references(cases[:1])
    with pytest.raises(UserError, match="use one IP-Adapter"):
        list(run_group(family, stack, given, [Variant("base")], SETTINGS, methods=METHODS))
    assert family.base.unet.encoder_hid_proj is None


def test_the_image_encoder_lies_beside_the_file_or_is_named_and_must_fit(
    family: Family, adapter: PluginFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tmp_path / "alone" / "ip-adapter_sd15.safetensors"
    alone.parent.mkdir()
    save_file(load_file(adapter.path), alone)
    with pytest.raises(UserError, match=r"no image encoder: put .* into image_encoder/"):
        load_ip_adapter(replace(adapter, path=alone), family)
    monkeypatch.setenv("XBENCH_IMAGE_ENCODER", str(adapter.path.parent / "image_encoder"))
    assert load_ip_adapter(replace(adapter, path=alone), family).audit.is_complete
    other = save_ip_adapter(tmp_path / "other", family.base.unet, image_width=40)
    save_file(load_file(adapter.path), other)
    with pytest.raises(UserError, match="gives 40 values, the IP-Adapter takes 24"):
        load_ip_adapter(replace(adapter, path=other), family)


@pytest.mark.parametrize("key", ["image_proj.latents", "image_proj.proj.0.weight"])
def test_other_kinds_of_ip_adapter_are_named(
    family: Family, adapter: PluginFile, tmp_path: Path, key: str
) -> None:
    save_file({**load_file(adapter.path), key: torch.zeros(1)}, tmp_path / "plus.safetensors")
    with pytest.raises(UserError, match=r"an IP-Adapter (Plus|Full)"):
        load_ip_adapter(replace(adapter, path=tmp_path / "plus.safetensors"), family)


def test_an_ip_adapter_of_another_text_width_is_refused(
    family: Family, adapter: PluginFile, tmp_path: Path
) -> None:
    state = {**load_file(adapter.path), "image_proj.proj.weight": torch.ones(100, 24)}
    save_file(state, tmp_path / "wide.safetensors")
    with pytest.raises(UserError, match=r"\(100, 24\), it must be \[n x 64"):
        load_ip_adapter(replace(adapter, path=tmp_path / "wide.safetensors"), family)
