"""Detect a file's type by its first bytes: weights, or what was saved under their name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

FileType = Literal[
    "safetensors",
    "empty",
    "truncated",
    "html",
    "json",
    "lfs-pointer",
    "zip",
    "torch-zip",
    "pickle",
    "tar",
    "archive",
    "not-safetensors",
]

PICKLED: frozenset[FileType] = frozenset({"torch-zip", "pickle", "tar"})

_HEAD_BYTES = 1024
_LFS = b"version https://git-lfs"
_BOM = b"\xef\xbb\xbf"
_ZIP, _PICKLE, _USTAR = b"PK\x03\x04", re.compile(rb"\x80[\x02-\x05]"), slice(257, 262)
_TEXT_PICKLE = re.compile(rb"\(?[clid(][\w.]*p?\d*\n")
_ARCHIVES = (b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_EMPTY_ZIPS = (b"PK\x05\x06", b"PK\x07\x08")


def sniff(path: Path) -> FileType:
    """Read at most 1 KiB and return the type; `safetensors` only means that it looks like one.

    Raises OSError where the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        file_bytes = file.seek(0, 2)
    return sniff_bytes(head, file_bytes)


def sniff_bytes(head: bytes, file_bytes: int) -> FileType:
    """Detect the type by a file's first bytes (at least 512 if it has as many) and its size."""
    if file_bytes == 0:
        return "empty"
    if _looks_like_safetensors(head, file_bytes):
        return "safetensors"
    return _text_type(head) or _binary_type(head) or _safetensors_remains(head, file_bytes)


def _looks_like_safetensors(head: bytes, file_bytes: int) -> bool:
    header_bytes = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and header_bytes <= file_bytes - 8


def _text_type(head: bytes) -> FileType | None:
    text = head.removeprefix(_BOM).lstrip()
    if text.startswith(_LFS):
        return "lfs-pointer"
    if text.startswith(b"<"):
        return "html"
    if text.startswith((b"{", b"[")) and text[1:].lstrip()[:1] in (b'"', b"{", b"}", b"]", b""):
        return "json"
    return None


def _binary_type(head: bytes) -> FileType | None:
    if head.startswith(_ZIP):
        return "torch-zip" if b"/data.pkl" in head[:512] else "zip"
    if head.startswith(_EMPTY_ZIPS):
        return "zip"
    if _PICKLE.match(head) or _TEXT_PICKLE.match(head):
        return "pickle"
    if head[_USTAR] == b"ustar":
        return "tar"
    return "archive" if head.startswith(_ARCHIVES) else None


def _safetensors_remains(head: bytes, file_bytes: int) -> FileType:
    # A header that is begun, but longer than the file: an interrupted download.
    header_bytes = int.from_bytes(head[:8], "little")
    is_begun = head[8:9] == b"{" or (file_bytes <= 8 and header_bytes < 2**32)
    return "truncated" if is_begun else "not-safetensors"
