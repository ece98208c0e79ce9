"""Read and validate the header of an untrusted safetensors file; no tensor is touched.

Stricter than the safetensors library (0.8), which accepts 300,000 empty tensors, shapes of
[0, 2^40], 5 MB of metadata and any text as a name. The header's JSON is read piece by piece, so
that memory stays bounded: the format is one flat object of tensor entries and one of text -> text,
and nothing else is built, whatever is nested in the file. Source: the safetensors format
description (version 0.8).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from plugins_manifest.errors import UserError
from plugins_manifest.formats.magic import sniff
from plugins_manifest.formats.parsed import CAPS, Caps, Header, TensorInfo, UnsafeFile
from plugins_manifest.formats.reasons import UNSAFE

DTYPE_BYTES: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
        **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
        **dict.fromkeys(("U32", "I32", "F32"), 4),
        **dict.fromkeys(("U64", "I64", "F64"), 8),
    }
)
_LENGTH_BYTES = 8
_FIELDS = {"dtype", "shape", "data_offsets"}
_CHUNK_BYTES = 2**20
_METADATA = "__metadata__"
_SPACE = re.compile(r"[ \t\n\r]*")
_MAX_ENTRY = 1_024  # characters of one tensor's entry


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_STRINGS = json.JSONDecoder()
_ENTRIES = json.JSONDecoder(object_pairs_hook=list, parse_constant=_refuse_constant)


def read_header(path: Path, caps: Caps = CAPS) -> Header:
    """Read and check the header of a safetensors file.

    Raises `UnsafeFile` with a code of reasons.UNSAFE unless the file is complete, well-formed and
    within the caps; `UserError` if it cannot be read.
    """
    try:
        return _read(path, caps)
    except OSError as error:
        raise UserError(
            f"{path.name!a} cannot be read ({error.strerror}): check the path"
        ) from error


def payload_sha256(path: Path) -> str:
    """Return the sha256 of the bytes after the header: files with other metadata have the same.

    Civitai's AutoV3 is its first part. Raises `UnsafeFile` as `read_header` does.
    """
    start = read_header(path).payload_start
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _read(path: Path, caps: Caps) -> Header:
    file_type = sniff(path)
    if file_type != "safetensors":
        raise UnsafeFile(file_type, f"{path.name!a}: {UNSAFE[file_type]}")
    file_bytes = path.stat().st_size
    if file_bytes > caps.file_bytes:
        raise UnsafeFile("too-large", f"{file_bytes} bytes; at most {caps.file_bytes} are read")
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if header_bytes > caps.header_bytes:
            raise UnsafeFile(
                "header-too-large",
                f"a header of {header_bytes} bytes; at most {caps.header_bytes} are read",
            )
        text = _decoded(file.read(header_bytes))
    entries, metadata = _read_entries(text, caps)
    payload_start = _LENGTH_BYTES + header_bytes
    tensors = {name: _tensor(name, entry, caps) for name, entry in entries.items()}
    _check_cover(tensors, file_bytes - payload_start)
    return Header(tensors, metadata, payload_start, file_bytes)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnsafeFile("header-not-json", "the header is not UTF-8 text") from error


def _tensor(name: str, entry: dict[str, Any], caps: Caps) -> TensorInfo:
    quoted = ascii(name[:80])
    if not 0 < len(name) <= caps.name_length or not name.isprintable():
        raise UnsafeFile("bad-name", f"the tensor name {quoted} is too long or does not print")
    if set(entry) != _FIELDS:
        raise UnsafeFile("header-not-json", f"{quoted} must have {', '.join(sorted(_FIELDS))}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise UnsafeFile("unknown-dtype", f"{quoted} has the unknown dtype {str(dtype)[:20]!a}")
    if not _are_counts(shape, caps.side) or len(shape) > caps.n_dims:
        raise UnsafeFile("bad-shape-header", f"{quoted} has the shape {str(shape)[:80]}")
    if not _are_counts(offsets, caps.file_bytes) or len(offsets) != 2:
        raise UnsafeFile("bad-offsets", f"{quoted} has the offsets {str(offsets)[:80]}")
    start, end = offsets
    if end - start != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise UnsafeFile(
            "bad-offsets",
            f"{quoted}: {dtype} {str(shape)[:80]} does not fill the bytes {start} to {end}",
        )
    return TensorInfo(dtype, tuple(shape), start, end)


def _are_counts(values: object, largest: int) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= largest for v in values)


def _check_cover(tensors: dict[str, TensorInfo], payload_bytes: int) -> None:
    """Check that every byte of the payload belongs to exactly one tensor."""
    at = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != at:
            what = "overlaps another tensor" if info.start < at else "leaves a hole before it"
            raise UnsafeFile("bad-offsets", f"{name[:80]!a} {what}")
        at = info.end
    if at > payload_bytes:
        raise UnsafeFile(
            "truncated",
            f"the tensors need {at} bytes, the file has {payload_bytes}: fetch it again",
        )
    if at < payload_bytes:
        raise UnsafeFile("bad-offsets", f"{payload_bytes - at} bytes belong to no tensor")


def _read_entries(text: str, caps: Caps) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return each tensor's entry (dtype, shape, data_offsets; unchecked), and the metadata.

    Raises `UnsafeFile` for everything that is not in the format.
    """
    entries: dict[str, dict[str, Any]] = {}
    metadata: dict[str, str] | None = None
    at = _skip(text, 0)
    at = _expect(text, at, "{")
    while not _is_at(text, at, "}"):
        if entries or metadata is not None:
            at = _expect(text, at, ",")
        name, at = _string(text, at)
        at = _expect(text, at, ":")
        if name == _METADATA and metadata is None:
            metadata, at = _metadata(text, at, caps)
            continue
        if name in entries or name == _METADATA:
            raise UnsafeFile("duplicate-key", f"the header names {name[:80]!a} twice")
        entries[name], at = _entry(text, at)
        if len(entries) > caps.n_tensors:
            raise UnsafeFile("too-many-tensors", f"more than {caps.n_tensors} tensors")
    if _skip(text, at + 1) != len(text):
        raise _not_json("text after the last brace", at)
    return entries, metadata or {}


def _metadata(text: str, at: int, caps: Caps) -> tuple[dict[str, str], int]:
    start = at
    at = _expect(text, at, "{")
    found: dict[str, str] = {}
    while not _is_at(text, at, "}"):
        if found:
            at = _expect(text, at, ",")
        name, at = _string(text, at)
        at = _expect(text, at, ":")
        if not _is_at(text, at, '"'):
            raise UnsafeFile("bad-metadata", f"the metadata {name[:80]!a} is not text")
        if name in found:
            raise UnsafeFile("duplicate-key", f"the metadata names {name[:80]!a} twice")
        found[name], at = _string(text, at)
        if len(found) > caps.n_metadata or at - start > caps.metadata_bytes:
            raise UnsafeFile(
                "bad-metadata",
                f"more metadata than {caps.n_metadata} entries or {caps.metadata_bytes} bytes",
            )
    return found, _skip(text, at + 1)


def _entry(text: str, at: int) -> tuple[dict[str, Any], int]:
    end = text.find("}", at, at + _MAX_ENTRY) + 1
    if not _is_at(text, at, "{") or not end or text.find("{", at + 1, end) >= 0:
        raise _not_json("a tensor's entry is not a short, flat object", at)
    try:
        pairs = _ENTRIES.decode(text[at:end])
    except (ValueError, RecursionError) as error:
        raise _not_json("a tensor's entry is not JSON", at) from error
    entry = dict(pairs)
    if len(entry) != len(pairs):
        raise UnsafeFile("duplicate-key", "a tensor's entry names a field twice")
    return entry, _skip(text, end)


def _string(text: str, at: int) -> tuple[str, int]:
    if not _is_at(text, at, '"'):
        raise _not_json('expected "', at)
    try:
        value, end = _STRINGS.raw_decode(text, at)
    except ValueError as error:
        raise _not_json("a name or text does not end", at) from error
    if not _is_whole(value):
        raise _not_json("half a character", at)
    return value, _skip(text, end)


def _is_whole(value: str) -> bool:
    """Return whether text has no lone surrogates, which no encoding can write."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _is_at(text: str, at: int, sign: str) -> bool:
    return text.startswith(sign, at)


def _expect(text: str, at: int, sign: str) -> int:
    if not text.startswith(sign, at):
        raise _not_json(f"expected {sign}", at)
    return _skip(text, at + 1)


def _not_json(what: str, at: int) -> UnsafeFile:
    return UnsafeFile("header-not-json", f"the header is not valid at character {at}: {what}")
