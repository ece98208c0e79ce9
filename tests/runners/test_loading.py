"""Weights arrive as they are in the file, in the dtype that was requested.

`place` casts whatever arrives, so a library that ignores `dtype` wastes memory without a message,
and one that ignores names of tensors leaves random weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel
from safetensors.torch import load_file
from torch import Tensor

from pocket.weights import part_path
from runners.base import PluginFile
from runners.families import family as families
from runners.families.family import load_from_folders
from runners.plugins.ip_adapter import load_ip_adapter
from tests.runners.kinds import save_ip_adapter

NETWORKS = ("unet", "vae", "text_encoder", "text_encoder_2")


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Return the dtype of every network at the moment it was read from its files."""
    seen: list[torch.dtype] = []
    place = families.place

    def noted(model: Any, *, device: str, dtype: str) -> Any:
        seen.append(model.dtype)
        return place(model, device=device, dtype=dtype)

    monkeypatch.setattr(families, "place", noted)
    return seen


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_family_is_read_in_the_dtype_requested(
    folders: Path, tmp_path: Path, arrived: list[torch.dtype], dtype: str
) -> None:
    vae: Any = AutoencoderKL.from_pretrained(folders / "upgraded" / "vae")
    vae.save_pretrained(tmp_path / "vae")
    load_from_folders(
        "pocket",
        base=folders / "base",
        upgraded=folders / "upgraded",
        upgraded_vae=tmp_path / "vae",
        mapper=None,
        device="cpu",
        dtype=dtype,
    )
    assert arrived == [getattr(torch, dtype)] * 7


def test_half_precision_files_are_read_in_the_dtype_requested(arrived: list[torch.dtype]) -> None:
    shipped = {side: part_path(side) for side in ("base", "upgraded")}
    for dtype in ("float32", "float16"):
        arrived.clear()
        load_from_folders("pocket", **shipped, mapper=None, device="cpu", dtype=dtype)
        assert arrived == [getattr(torch, dtype)] * 7


def test_an_image_encoder_is_read_in_the_dtype_of_the_family(
    folders: Path, tmp_path: Path, arrived: list[torch.dtype]
) -> None:
    for dtype in ("float16", "float32"):
        family = load_from_folders(
            "pocket",
            base=folders / "base",
            upgraded=folders / "upgraded",
            mapper=None,
            device="cpu",
            dtype=dtype,
        )
        arrived.clear()
        path = save_ip_adapter(tmp_path / dtype, family.base.unet)
        load_ip_adapter(PluginFile("ip", "ip-adapter", path), family)
        assert arrived == [getattr(torch, dtype)]


def digests(tensors: Iterable[Tensor]) -> set[str]:
    values = (t.detach().contiguous().to(torch.float32).numpy().tobytes() for t in tensors)
    return {hashlib.sha256(value).hexdigest() for value in values}


def assert_from_file(network: Any, folder: Path) -> None:
    """Every parameter has the values of a tensor of the file, whatever their names."""
    (file,) = folder.glob("*.safetensors")
    assert digests(network.parameters()) <= digests(load_file(file).values())


def test_no_weight_of_the_shipped_models_stays_random() -> None:
    shipped = {side: part_path(side) for side in ("base", "upgraded")}
    family = load_from_folders("pocket", **shipped, mapper=None, device="cpu", dtype="float32")
    for side, folder in shipped.items():
        for name in NETWORKS:
            if (network := getattr(getattr(family, side), name, None)) is not None:
                assert_from_file(network, folder / name)
    controlnet: Any = ControlNetModel.from_pretrained(part_path("controlnet-mask"))
    assert_from_file(controlnet, part_path("controlnet-mask"))
