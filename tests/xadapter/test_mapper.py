"""The mapper and its files."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.xadapter.conftest import new_mapper
from xadapter.errors import MapperFileError, MapperFitError
from xadapter.layout import mapper_layout, mapper_shapes
from xadapter.load import load_mapper
from xadapter.mapper import Mapper


def same(a: Mapper, b: Mapper) -> bool:
    states = a.state_dict(), b.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][k], states[1][k]) for k in states[0]
    )


def test_new_mapper_returns_zeros(zero_mapper: Mapper) -> None:
    offsets = zero_mapper([torch.ones(1, 12, 4, 4), torch.ones(1, 8, 8, 8), torch.ones(1, 4, 8, 8)])
    assert [tuple(o.shape) for o in offsets] == [(1, 16, 4, 4), (1, 16, 8, 8), (1, 8, 16, 16)]
    assert all(not o.any() for o in offsets)


def test_odd_sides_are_doubled_too(mapper: Mapper) -> None:
    sides = [torch.ones(1, 12, 3, 2), torch.ones(1, 8, 5, 4), torch.ones(1, 4, 5, 4)]
    assert tuple(mapper(sides)[2].shape) == (1, 8, 10, 8)


def test_features_of_other_widths_are_refused(mapper: Mapper) -> None:
    with pytest.raises(MapperFitError, match=r"\(12, 8, 4\), got \(12, 8, 5\)"):
        mapper([torch.ones(1, 12, 4, 4), torch.ones(1, 8, 8, 8), torch.ones(1, 5, 8, 8)])


def test_two_branches_are_refused() -> None:
    with pytest.raises(MapperFitError, match="3 branches"):
        Mapper(in_channels=(4, 4), out_channels=(4, 4))


def test_same_seed_gives_the_same_mapper() -> None:
    assert same(new_mapper(3), new_mapper(3))
    assert not same(new_mapper(3), new_mapper(4))


def test_folder_round_trip(tmp_path: Path, mapper: Mapper) -> None:
    mapper.save_pretrained(tmp_path)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]
    assert same(load_mapper(tmp_path), mapper)
    assert same(Mapper.from_pretrained(tmp_path), mapper)


def test_safetensors_without_config_infers_the_shape(tmp_path: Path, mapper: Mapper) -> None:
    save_file(mapper.state_dict(), tmp_path / "m.safetensors")
    loaded = load_mapper(tmp_path / "m.safetensors", dtype=torch.bfloat16)
    assert loaded.config["n_blocks"] == 2
    assert loaded.in_channels == (12, 8, 4)
    assert loaded.dtype == torch.bfloat16


@pytest.mark.parametrize("suffix", [".bin", ".ckpt"])
@pytest.mark.parametrize("wrapper", [None, "state_dict"])
def test_released_checkpoints_load_as_tensors_only(
    tmp_path: Path, mapper: Mapper, suffix: str, wrapper: str | None
) -> None:
    state: Any = OrderedDict((f"module.{k}", v) for k, v in mapper.state_dict().items())
    torch.save({wrapper: state} if wrapper else state, tmp_path / f"m{suffix}")
    assert same(load_mapper(tmp_path / f"m{suffix}"), mapper)


def test_pickle_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"body.0.block1.weight": Path("x")}, tmp_path / "m.bin")
    with pytest.raises(MapperFileError, match="cannot be read as tensors"):
        load_mapper(tmp_path / "m.bin")


def test_missing_file_and_unknown_ending_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MapperFileError, match="there is no mapper at"):
        load_mapper(tmp_path / "absent.safetensors")
    (tmp_path / "m.txt").write_text("x")
    with pytest.raises(MapperFileError, match="unknown ending"):
        load_mapper(tmp_path / "m.txt")


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"not a mapper")
    with pytest.raises(MapperFileError, match="cannot be read"):
        load_mapper(tmp_path / "m.safetensors")


def test_other_keys_and_shapes_are_named(tmp_path: Path, mapper: Mapper) -> None:
    with pytest.raises(MapperFileError, match=r"not a mapper: expected.*conv_in"):
        mapper_layout({"conv_in.weight": (1,)})
    state = dict(mapper.state_dict())
    del state["body.1.block1.bias"]
    state["body.0.block2.weight"] = torch.zeros(3, 3)
    state["body.0.extra"] = torch.zeros(1)
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(MapperFileError) as caught:
        load_mapper(tmp_path / "m.safetensors")
    for part in ("body.1.block1.bias", "body.0.extra", "(3, 3)", "(16, 16, 3, 3)"):
        assert part in str(caught.value)


@pytest.mark.parametrize("widths", [((12, 8, 4), (16, 16, 8), 2), ((4, 8, 3), (4, 8, 3), 1)])
def test_layout_has_the_shapes_of_the_mapper(widths: Any) -> None:
    shapes = {name: tuple(value.shape) for name, value in Mapper(*widths).state_dict().items()}
    assert mapper_shapes(*widths) == shapes
    layout = mapper_layout(shapes)
    assert (layout.in_channels, layout.out_channels, layout.n_blocks) == widths


def test_two_mappers_in_one_file_are_refused(tmp_path: Path, mapper: Mapper) -> None:
    state = mapper.state_dict()
    both = {f"{prefix}.{k}": v.clone() for prefix in ("model", "ema") for k, v in state.items()}
    save_file(both, tmp_path / "m.safetensors")
    with pytest.raises(MapperFileError, match="contains two mappers"):
        load_mapper(tmp_path / "m.safetensors")
