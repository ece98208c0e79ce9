from __future__ import annotations

from pathlib import Path

import pytest
import torch

from plugins_manifest.errors import UserError
from runners.families.family import Family, load_from_folders
from runners.families.pocket import POCKET
from xadapter.mapper import Mapper


def load(
    folders: Path, mapper: Path | None, *, device: str = "cpu", dtype: str = "float32"
) -> Family:
    return load_from_folders(
        "pocket",
        base=folders / "base",
        upgraded=folders / "upgraded",
        mapper=mapper,
        device=device,
        dtype=dtype,
    )


def test_all_parts_are_frozen_and_in_evaluation_mode(family: Family) -> None:
    parts = (family.base.unet, family.base.text_encoder, family.upgraded.vae, family.mapper)
    for part in parts:
        assert part is not None
        assert not part.training
        assert not any(weight.requires_grad for weight in part.parameters())


def test_a_mapper_that_does_not_fit_shows_both_sets_of_channels(
    folders: Path, tmp_path: Path
) -> None:
    Mapper(in_channels=(10, 6, 4), out_channels=(10, 14, 6)).save_pretrained(tmp_path / "mapper")
    with pytest.raises(UserError, match=r"\(10, 6, 4\).*\(96, 96, 64\)|\(10, 6, 4\)"):
        load(folders, tmp_path / "mapper")


def test_a_file_that_is_no_mapper_is_told(folders: Path) -> None:
    with pytest.raises(UserError, match="is not a mapper"):
        load(folders, folders / "lora.safetensors")


def test_a_family_without_mapper_loads_without_a_word(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load(folders, None).mapper is None
    assert capsys.readouterr() == ("", "")


def test_an_unknown_dtype_and_device_are_told_with_the_valid_ones(folders: Path) -> None:
    with pytest.raises(UserError, match="float16"):
        load(folders, None, dtype="int8")
    with pytest.raises(UserError, match="cpu"):
        load(folders, None, device="tpu")


def test_bfloat16_reaches_every_part(folders: Path) -> None:
    family = load(folders, folders / "mapper", dtype="bfloat16")
    assert family.base.unet.dtype == torch.bfloat16
    assert family.mapper is not None
    assert family.mapper.dtype == torch.bfloat16


def test_pocket_loads_its_own_weights_or_another_mapper(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def part_path(name: str) -> Path:
        asked.append(name)
        return folders / name

    monkeypatch.setattr("pocket.weights.part_path", part_path)
    family = POCKET.load(device="cpu", dtype="float32", adapter=folders / "mapper")
    assert family.name == "pocket"
    assert asked == ["base", "upgraded"]


def test_pocket_weights_that_are_missing_are_a_user_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pocket.weights.HASHES", tmp_path / "sha256.json")
    with pytest.raises(UserError, match="train-pocket"):
        POCKET.fingerprint(None)
    with pytest.raises(UserError, match=r"pocket weights|train-pocket"):
        POCKET.load(device="cpu", dtype="float32", adapter=None)
    with pytest.raises(UserError, match="no mapper"):
        POCKET.fingerprint(tmp_path / "none")
