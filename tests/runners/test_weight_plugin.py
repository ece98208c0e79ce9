from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from plugins_manifest.errors import UserError
from runners.base import PluginFile
from runners.families import Family
from runners.plugins import load_plugin


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


def test_our_merge_equals_diffusers_own_lora(family: Family, lora: PluginFile) -> None:
    """The same file through peft, as diffusers loads kohya files (UNet part)."""
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, 4, 8, 8, generator=generator)
    text = torch.randn(1, 5, 64, generator=generator)

    def forward() -> Tensor:
        with torch.no_grad():
            return family.base.unet(sample, 500, encoder_hidden_states=text).sample

    with load_plugin(lora, family).attached(family, strength=0.7):
        ours = forward()
    plain = forward()
    state = {k: v for k, v in load_file(lora.path).items() if k.startswith("lora_unet")}
    try:
        family.base.load_lora_weights(dict(state), adapter_name="reference")
        family.base.set_adapters(["reference"], [0.7])
        reference = forward()
    finally:
        family.base.unload_lora_weights()
    largest = float(reference.abs().max())
    assert float((ours - reference).abs().max()) < 1e-4 * largest
    assert float((ours - plain).abs().max()) > 1e-2 * largest
    assert torch.equal(forward(), plain)


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
