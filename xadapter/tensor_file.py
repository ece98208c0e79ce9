"""Tensors of safetensors files in memory of their own.

The library maps a file, so that weights in use change when the file is overwritten, and the process
ends when it is truncated. Source: the safetensors format description (version 0.8).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from plugins_manifest.documents import parse_json

Model = TypeVar("Model", bound=nn.Module)
_LENGTH_BYTES = 8
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_tensor_file(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name; needs no more memory than they do.

    Raises `SafetensorError` or `UserError` for any other file, `OSError` for one that cannot be
    read.
    """
    with safe_open(path, framework="pt") as checked:  # the library validates the header
        names = [*checked.keys()]
    with path.open("rb") as file:
        n_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = parse_json(file.read(n_bytes), name=path.name, most_bytes=n_bytes)
        start = _LENGTH_BYTES + n_bytes
        return {name: _read_one(file, start, header[name]) for name in names}


def _read_one(file: BinaryIO, start: int, entry: dict[str, Any]) -> Tensor:
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise SafetensorError(f"tensors of dtype {entry['dtype']} cannot be read")
    tensor = torch.empty(entry["shape"], dtype=dtype)
    if tensor.numel():
        file.seek(start + entry["data_offsets"][0])
        flat: Any = tensor.reshape(-1).view(torch.uint8).numpy()
        left = memoryview(flat)
        while left:
            n_read = file.readinto(left)  # pyright: ignore[reportAttributeAccessIssue]
            if not n_read:
                raise SafetensorError("the file ends before its last tensor")
            left = left[n_read:]
    return tensor


def own_memory(model: Model) -> Model:
    """Copy weights on the CPU that may be mapped from a file, one after the other."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.device.type == "cpu":
                tensor.data = tensor.data.clone()
    return model
