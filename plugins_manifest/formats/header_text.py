"""Reads the JSON of a safetensors header piece by piece, so that memory stays bounded.

The format is narrow: one object of tensor entries without inner objects, and one of text -> text
named `__metadata__`. A general JSON reader would build whatever an attacker nests; this one builds
nothing that the format does not have. Source: the safetensors format description (version 0.8).
"""

from __future__ import annotations

import json
import re
from typing import Any

from plugins_manifest.formats.parsed import Caps, UnsafeFile

METADATA = "__metadata__"
_SPACE = re.compile(r"[ \t\n\r]*")
_MAX_ENTRY = 1_024  # characters of one tensor's entry


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_STRINGS = json.JSONDecoder()
_ENTRIES = json.JSONDecoder(object_pairs_hook=list, parse_constant=_refuse_constant)


def read_entries(text: str, caps: Caps) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Tensor name -> its entry (dtype, shape, data_offsets, unchecked), and the metadata.

    Raises `UnsafeFile` for everything that the format does not have.
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
        if name == METADATA and metadata is None:
            metadata, at = _metadata(text, at, caps)
            continue
        if name in entries or name == METADATA:
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
    """Whether text has no lone surrogates, which no encoding can write."""
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
