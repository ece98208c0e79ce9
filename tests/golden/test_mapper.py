"""The mapper equals the recorded one, at every recorded shape."""

from __future__ import annotations

import json

import pytest
import torch

from tests.golden.conftest import (
    FORWARD_LIMIT,
    case_params,
    golden_folder,
    mapper_like,
    model,
    require,
    worst,
)
from xadapter.mapper import Mapper

PREFIX = "state."


@pytest.mark.parametrize("name", case_params("mapper"))
def test_mapper_returns_the_recorded_offsets(name: str) -> None:
    case = require("mapper", name)
    own = {k[len(PREFIX) :]: v for k, v in case.tensors.items() if k.startswith(PREFIX)}
    mapper = model("mapper")
    if own:
        mapper = mapper_like(case.json["config"])
        mapper.load_state_dict(own)
    with torch.no_grad():
        offsets = mapper([case.tensors[f"input_{i}"] for i in range(3)])
    for i, offset in enumerate(offsets):
        assert worst(offset, case.tensors[f"output_{i}"]) <= FORWARD_LIMIT


def test_real_size_keys_and_shapes_equal_the_released_checkpoint() -> None:
    path = golden_folder() / "mapper" / "real_size_state_dict.json"
    if not path.exists():
        pytest.skip(f"no {path}; set XBENCH_GOLDEN")
    recorded = json.loads(path.read_text(encoding="utf-8"))
    with torch.device("meta"):
        mapper = Mapper(recorded["in_channels"], recorded["out_channels"])
        default = Mapper()
    shapes = {key: str(list(value.shape)) for key, value in mapper.state_dict().items()}
    assert shapes == recorded["keys"]
    assert len(shapes) == recorded["num_tensors"]
    assert sum(p.numel() for p in mapper.parameters()) == recorded["num_parameters"]
    assert default.in_channels == tuple(recorded["in_channels"])
    assert default.out_channels == tuple(recorded["out_channels"])
    closing = sorted(key for key in shapes if key.startswith("zero_out"))
    assert closing == sorted(recorded["zero_initialised"])
