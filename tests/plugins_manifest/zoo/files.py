"""Bytes of files: safetensors, right or wrong in every way that a header allows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_DTYPES = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64", "int32": "I32"}


@dataclass(frozen=True)
class Raw:
    """A tensor that numpy has no dtype for, or that is described falsely."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


Content = Mapping[str, "np.ndarray | Raw"]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Small random half-precision numbers."""
    rng = np.random.default_rng([seed, *shape])
    return (0.05 * rng.standard_normal(shape)).astype(np.float16)


def bf16(*shape: int, seed: int = 0) -> Raw:
    """Small random numbers as bfloat16: the upper halves of float32."""
    upper = numbers(*shape, seed=seed).astype(np.float32).view(np.uint32) >> 16
    return Raw("BF16", shape, upper.astype("<u2").tobytes())


def pack(content: Content, metadata: Mapping[str, Any] | None = None) -> bytes:
    """Return a well-formed safetensors file."""
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    payload = []
    at = 0
    for name, tensor in content.items():
        if isinstance(tensor, Raw):
            dtype, shape, data = tensor.dtype, tensor.shape, tensor.data
        else:
            dtype, shape, data = _DTYPES[tensor.dtype.name], tensor.shape, tensor.tobytes()
        offsets = [at, at + len(data)]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        payload.append(data)
        at += len(data)
    return with_header(json.dumps(entries), b"".join(payload))


def with_header(text: str | bytes, payload: bytes = b"", *, declared: int | None = None) -> bytes:
    """Return a file with any header text; `declared` is its length where that shall be a lie."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    length = len(raw) if declared is None else declared
    return length.to_bytes(8, "little") + raw + payload


def entry(
    dtype: str = "F32", shape: Sequence[Any] = (2, 2), offsets: Sequence[Any] | None = None
) -> dict[str, Any]:
    """One tensor's entry; the offsets begin at 0 unless given."""
    size = {"F32": 4, "F16": 2}.get(dtype, 1)
    if offsets is None:
        offsets = [0, size * math.prod(int(side) for side in shape)]
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}
