"""Read tensors of a file as float32 with numpy, which has no bfloat16 and no 8-bit floats."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from plugins_manifest.formats import Header
from plugins_manifest.formats.parsed import TensorInfo

_PLAIN = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "u1"}


class TensorReader:
    """The tensors of one file of weights, read one by one."""

    def __init__(self, path: Path, header: Header) -> None:
        self._header = header
        self._file = path.open("rb")

    def __enter__(self) -> TensorReader:
        """Return the reader."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()

    def read(self, key: str) -> NDArray[np.float32]:
        """Return a tensor's values in its shape."""
        info = self._header.tensors[key]
        self._file.seek(self._header.payload_start + info.start)
        return as_float32(self._file.read(info.end - info.start), info)


def as_float32(raw: bytes, info: TensorInfo) -> NDArray[np.float32]:
    """Return the numbers of a tensor's bytes; values that float32 cannot hold become infinite."""
    if info.dtype == "BF16":
        found = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    elif info.dtype == "F8_E5M2":  # the upper half of a float16
        found = (np.frombuffer(raw, "u1").astype("<u2") << 8).view("<f2")
    elif info.dtype == "F8_E4M3":
        found = _E4M3[np.frombuffer(raw, "u1")]
    else:
        found = np.frombuffer(raw, _PLAIN[info.dtype])
    with np.errstate(over="ignore", invalid="ignore"):
        return found.astype(np.float32).reshape(info.shape)


def _e4m3() -> NDArray[np.float32]:
    """Return the values of all 8-bit floats with 4 bits of exponent, bias 7; 0x7f is NaN."""
    bits = np.arange(256)
    exponent, fraction = bits >> 3 & 15, bits & 7
    size = np.where(exponent, np.ldexp(1 + fraction / 8, exponent - 7), np.ldexp(fraction / 8, -6))
    size[(bits & 127) == 127] = np.nan
    return np.where(bits & 128, -size, size).astype(np.float32)


_E4M3 = _e4m3()
