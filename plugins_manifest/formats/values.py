"""Find NaN and infinite values, and tensors that are all zero, with numpy alone.

Floats are compared as bits, since numpy has no bfloat16 and no 8-bit floats.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from plugins_manifest.formats.formulas.registry import formulas
from plugins_manifest.formats.parsed import Header, ModuleChange, ParsedPlugin, Problem, TensorInfo

_CHUNK_BYTES = 4 * 2**20
_N_SHOWN = 3
# Layers through which a network acts: without values in any of them it changes nothing.
_OUTPUTS = re.compile(
    r"controlnet_(?:down_blocks\.\d+|mid_block)\.(?:weight|bias)"
    r"|(?:control_model\.)?(?:zero_convs\.\d+|middle_block_out)\.0\.(?:weight|bias)"
    r"|ip_adapter\.\d+\.to_v_ip\.weight"
)
# The largest float16. Values beyond it overflow where half precision is used, and lead to
# predictions that are not finite in any precision.
LARGEST = 65504.0
# dtype -> (bits as an unsigned integer, mask of all bits but the sign, smallest non-finite value)
_BITS: Mapping[str, tuple[str, int, int]] = MappingProxyType(
    {
        "F64": ("<u8", 0x7FFF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000),
        "F32": ("<u4", 0x7FFF_FFFF, 0x7F80_0000),
        "F16": ("<u2", 0x7FFF, 0x7C00),
        "BF16": ("<u2", 0x7FFF, 0x7F80),
        "F8_E5M2": ("<u1", 0x7F, 0x7C),
        "F8_E4M3": ("<u1", 0x7F, 0x7F),  # the "fn" kind: NaN alone, no infinity
        # whole numbers are finite: an alpha of 0 is found all the same
        "I64": ("<u8", 0xFFFF_FFFF_FFFF_FFFF, 2**64),
        "I32": ("<u4", 0xFFFF_FFFF, 2**32),
    }
)
_LARGEST_BITS: Mapping[str, int] = MappingProxyType(
    {
        "F64": int(np.float64(LARGEST).view(np.uint64)),
        "F32": int(np.float32(LARGEST).view(np.uint32)),
        "BF16": int(np.float32(LARGEST).view(np.uint32)) >> 16,
    }
)


@dataclass(frozen=True)
class Values:
    """Keys with NaN or infinite values, with values beyond `LARGEST`, and with zeros alone."""

    non_finite: tuple[str, ...]
    zero: frozenset[str]
    large: tuple[str, ...] = ()


def read_values(path: Path, header: Header) -> Values:
    """Read all floating-point tensors once, in 4 MiB pieces."""
    non_finite, zero, large = [], set(), []
    with path.open("rb") as file:
        for key, info in sorted(header.tensors.items(), key=lambda item: item[1].start):
            if info.dtype not in _BITS:
                continue
            file.seek(header.payload_start + info.start)
            left, largest = info.end - info.start, 0
            while left > 0 and (raw := file.read(min(left, _CHUNK_BYTES))):
                left -= len(raw)
                largest = max(largest, _largest(raw, info))
            if largest >= _BITS[info.dtype][2]:
                non_finite.append(key)
            elif largest > _LARGEST_BITS.get(info.dtype, largest):
                large.append(key)
            elif largest == 0:
                zero.add(key)
    return Values(tuple(non_finite), frozenset(zero), tuple(large))


def value_problems(values: Values, parsed: ParsedPlugin) -> list[Problem]:
    """Return problems of non-finite tensors, and of files whose changes are all zero."""
    problems, all_changes = [], list(parsed.changes)
    unused = {change.parts["alpha"] for change in all_changes if ignores_alpha(change)}
    non_finite = [key for key in values.non_finite if key not in unused]
    if non_finite:
        shown, n = ", ".join(non_finite[:_N_SHOWN]), len(non_finite)
        problems.append(Problem("non-finite", f"NaN or infinite values in {n} tensors: {shown}"))
    if large := [key for key in values.large if key not in unused]:
        shown, n = ", ".join(large[:_N_SHOWN]), len(large)
        problems.append(Problem("non-finite", f"values beyond {LARGEST:g} in {n} tensors: {shown}"))
    n_zero = sum(_is_zero(change, values.zero) for change in all_changes)
    outputs = [key for key in parsed.other_keys if _OUTPUTS.fullmatch(key)]
    is_idle = bool(outputs) and all(key in values.zero for key in outputs)
    if is_idle or (all_changes and n_zero == len(all_changes)):
        problems.append(Problem("no-change", "all changes are zero: an untrained plugin"))
    return problems


def ignores_alpha(change: ModuleChange) -> bool:
    """Return whether a change has an alpha that its formula does not use."""
    return "alpha" in change.parts and formulas()[change.formula].ignores_alpha(change.parts)


def _largest(raw: bytes, info: TensorInfo) -> int:
    """Return the largest magnitude, as bits: floats without sign are ordered as their bits."""
    kind, mask, _ = _BITS[info.dtype]
    bits: NDArray[np.unsignedinteger] = np.frombuffer(raw, dtype=kind)
    return int((bits & bits.dtype.type(mask)).max(initial=0))


def _is_zero(change: ModuleChange, zero: frozenset[str]) -> bool:
    zero_parts = {part for part, key in change.parts.items() if key in zero}
    if change.alpha == 0:
        zero_parts.add("alpha")
    return change.factor == 0 or formulas()[change.formula].is_zero(zero_parts, change.parts)
