from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from plugins_manifest.formats.header import read_header
from plugins_manifest.formats.values import read_values

FLOATS = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e5m2,
    torch.float8_e4m3fn,
)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_non_finite_and_zero_tensors_are_those_that_torch_finds(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    tensors = {
        "fine": torch.tensor([1.0, -2.0, 0.0]).to(dtype),
        "largest": torch.full((3,), torch.finfo(dtype).max, dtype=torch.float64).to(dtype),
        "lowest": torch.full((3,), torch.finfo(dtype).min, dtype=torch.float64).to(dtype),
        "zero": torch.tensor([0.0, -0.0]).to(dtype),
        "nan": torch.tensor([1.0, float("nan")]).to(dtype),
        "infinite": torch.tensor([1.0, float("-inf")]).to(dtype),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    values = read_values(tmp_path / "a.safetensors", read_header(tmp_path / "a.safetensors"))
    wide = {name: value.to(torch.float64) for name, value in tensors.items()}
    assert set(values.non_finite) == {n for n, v in wide.items() if not v.isfinite().all()}
    assert values.zero == {n for n, v in wide.items() if not v.any()}


def test_the_last_number_of_a_large_tensor_is_read(tmp_path: Path) -> None:
    large = np.zeros(3 * 2**20 + 1, dtype=np.float32)
    large[-1] = np.inf
    save_file({"a": torch.from_numpy(large)}, tmp_path / "a.safetensors")
    values = read_values(tmp_path / "a.safetensors", read_header(tmp_path / "a.safetensors"))
    assert values.non_finite == ("a",)
    assert values.zero == frozenset()
