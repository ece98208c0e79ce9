"""Facts of a plugin file: hashes that separate metadata from weights, and the parser's results."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from plugins_manifest.errors import UserError
from plugins_manifest.files import file_sha256
from plugins_manifest.formats import (
    Header,
    ModuleChange,
    ModuleTable,
    ParsedPlugin,
    Problem,
    parse,
    payload_sha256,
    read_header,
)
from plugins_manifest.formats.formulas import formulas
from plugins_manifest.formats.parsed import TensorInfo
from plugins_manifest.formats.side_files import read_plugin
from plugins_manifest.formats.values import read_values, value_problems
from plugins_manifest.lock.lock import LockedFile, Weights

Number = TypeVar("Number", int, float)
_MAX_PROBLEMS = 20
_CHUNK_BYTES = 1 << 20
_SCALARS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of one file; all but the first are None for files other than safetensors."""

    sha256: str
    size_bytes: int
    payload_sha256: str | None = None
    tensors_sha256: str | None = None


def fingerprint(path: Path) -> Fingerprint:
    """Return the three hashes of a file."""
    sha256, size_bytes = file_sha256(path), path.stat().st_size
    try:
        header = read_header(path)
    except UserError:
        return Fingerprint(sha256, size_bytes)
    return Fingerprint(sha256, size_bytes, payload_sha256(path), tensors_sha256(path, header))


def tensors_sha256(path: Path, header: Header) -> str:
    """Return the sha256 over every tensor's name, dtype, shape and bytes, sorted by name.

    Equal for files that differ only in metadata or in the order of their tensors. The payload's
    hash alone does not reveal two tensors of one shape that swapped their names.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for name, info in sorted(header.tensors.items()):
            digest.update(f"{name}\0{info.dtype}\0{list(info.shape)}\0".encode())
            stream.seek(header.payload_start + info.start)
            for chunk in _pieces(stream, info.end - info.start):
                digest.update(chunk)
    return digest.hexdigest()


def same_weights(locked: LockedFile, found: Fingerprint) -> bool:
    """Return whether all tensors are equal, so that at most the metadata differs."""
    return locked.tensors_sha256 is not None and locked.tensors_sha256 == found.tensors_sha256


def weights_of(path: Path, table: ModuleTable | None = None) -> Weights | None:
    """Read format, rank, alpha, targets and base model from the tensors; None for other files.

    `table` is of the model that the plugin is for; without one, problems are not listed.
    """
    try:
        header = read_plugin(path)
    except UserError:
        return None
    parsed = parse(header, table)
    problems: list[Problem] = []
    if table is not None:
        of_values = value_problems(read_values(path, header), parsed)
        problems = [*parsed.problems, *of_values]
    return Weights(
        format=parsed.format,
        kind=parsed.kind,
        base_model=parsed.base_model,
        dtypes=tuple(sorted({info.dtype for info in header.tensors.values()})),
        n_tensors=len(header.tensors),
        rank=_numbers(_ranks(parsed.changes, header)),
        alpha=_numbers(_alphas(path, parsed, header)),
        target_modules=_targets(parsed.changes),
        problems=tuple(f"{p.reason}: {p.message}" for p in problems[:_MAX_PROBLEMS]),
    )


def _numbers(found: Iterable[Number]) -> tuple[Number, ...] | None:
    return tuple(sorted(set(found))) or None


def _ranks(changes: Iterable[ModuleChange], header: Header) -> Iterable[int]:
    for change in changes:
        for part in formulas()[change.formula].rank_parts:
            key = change.parts.get(part)
            if key is not None and header.tensors[key].shape:
                yield header.tensors[key].shape[0]


def _alphas(path: Path, parsed: ParsedPlugin, header: Header) -> Iterable[float]:
    for change in parsed.changes:
        key = change.parts.get("alpha")
        if key is not None:
            value = _scalar(path, header, header.tensors[key])
            if value is not None:
                yield value
        elif change.alpha is not None:
            yield change.alpha


def _scalar(path: Path, header: Header, info: TensorInfo) -> float | None:
    """Read the value of a tensor with one element; None for any other tensor."""
    n_bytes = info.end - info.start
    if n_bytes > 8 or any(side != 1 for side in info.shape):
        return None
    with path.open("rb") as stream:
        stream.seek(header.payload_start + info.start)
        raw = stream.read(n_bytes)
    if info.dtype == "BF16":  # the upper half of a float32
        raw, kind = b"\0\0" + raw, "<f4"
    else:
        kind = _SCALARS.get(info.dtype, "")
    value = float(np.frombuffer(raw, dtype=kind)[0]) if kind else None
    return value if value is not None and np.isfinite(value) else None


def _targets(changes: Iterable[ModuleChange]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for change in changes:
        model, _, name = change.target.partition(".")
        words = [word for word in name.split(".")[:-1] if not word.isdigit()]
        counts[model][".".join(words[-2:]) or name] += 1
    return {model: dict(sorted(counts[model].items())) for model in sorted(counts)}


def _pieces(stream: BinaryIO, n_bytes: int) -> Iterable[bytes]:
    while n_bytes > 0:
        chunk = stream.read(min(_CHUNK_BYTES, n_bytes))
        if not chunk:
            return
        n_bytes -= len(chunk)
        yield chunk
