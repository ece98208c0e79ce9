"""Bounds and checksums of an image file's own structure, checked before Pillow reads it.

PNG: chunk checksums (Pillow skips those of the pixels) and the final chunk. JPEG: scans, which
are decoded one after the other. TIFF: counts of tag values, which Pillow unpacks into Python
numbers, and tile sizes, which libtiff allocates. Raises `ValueError` or `struct.error`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_PNG_HEAD, _JPEG_HEAD = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_TIFF_HEADS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
_MAX_CHUNKS = 100_000
_MAX_SCANNED_PIXELS = 2_000_000_000  # scans times pixels of a progressive JPEG: some 20 s
_MAX_EXIF_PARTS = 16  # of 64 KiB each
_MAX_TAGS, _MAX_TAG_VALUES = 4096, 1_000_000
_MAX_TILE_PIXELS = 16 << 20
_BYTE_TYPES = (1, 2, 6, 7)  # BYTE, ASCII, SBYTE, UNDEFINED: not unpacked into numbers
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_ORIENTATION, _TILE_WIDTH, _TILE_LENGTH = 0x0112, 322, 323
_FOLDERS = (34665, 34853, 40965)  # tags that point to EXIF, GPS and interoperability tags


def check_header(content: bytes) -> None:
    """Raise `ValueError` or `struct.error` for a damaged structure, and for one out of bounds."""
    if content.startswith(_PNG_HEAD):
        _check_png(content)
    elif content.startswith(_JPEG_HEAD):
        if content.count(b"Exif\0\0") > _MAX_EXIF_PARTS:
            raise ValueError("its EXIF data is too large")
    elif content[:4] in _TIFF_HEADS:
        _check_tiff(content)


def check_scans(content: bytes, n_pixels: int) -> None:
    """Raise `ValueError` for a JPEG with more scans than its size justifies."""
    # a marker never occurs within a scan's data, where 0xff is followed by 0
    if content.startswith(_JPEG_HEAD):
        n_scans = content.count(b"\xff\xda")
        if n_scans * max(n_pixels, 1_000_000) > _MAX_SCANNED_PIXELS:
            raise ValueError(f"{n_scans} scans")


def orientation_of(exif: bytes) -> int:
    """Return the orientation of EXIF data, 1 (upright) to 8; `ValueError` where it is damaged."""
    data = exif.removeprefix(b"Exif\0\0")
    for tag in _tags(data, *_first_folder(data)):
        if tag.number == _ORIENTATION:
            if tag.value not in range(1, 9):
                raise ValueError("its orientation is unknown")
            return tag.value
    return 1


def _check_png(content: bytes) -> None:
    at = len(_PNG_HEAD)
    view = memoryview(content)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(content):
            raise ValueError("it is truncated")
        length, name = struct.unpack_from(">I4s", content, at)
        end = at + 8 + length
        if end + 4 > len(content):
            raise ValueError("it is truncated")
        if zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            raise ValueError(f"its chunk {name!r} is damaged: the checksum differs")
        if name == b"IEND":
            return
        at = end + 4
    raise ValueError(f"more than {_MAX_CHUNKS:,} chunks")


@dataclass(frozen=True)
class _Tag:
    """An entry of a TIFF folder; `value` is its integer, 0 where it has none of its own."""

    number: int
    kind: int
    count: int
    value: int


def _check_tiff(content: bytes) -> None:
    where = _first_folder(content)
    tags = list(_tags(content, *where))
    for tag in list(tags):
        if tag.number in _FOLDERS and tag.value:
            tags += _tags(content, where[0], where[1], tag.value)
    if sum(tag.count for tag in tags if tag.kind not in _BYTE_TYPES) > _MAX_TAG_VALUES:
        raise ValueError(f"more than {_MAX_TAG_VALUES:,} values in its tags")
    sides = {tag.number: tag.value for tag in tags}
    if sides.get(_TILE_WIDTH, 0) * sides.get(_TILE_LENGTH, 0) > _MAX_TILE_PIXELS:
        raise ValueError("its tiles are too large")


def _first_folder(content: bytes) -> tuple[str, bool, int]:
    """Return byte order, whether it is a BigTIFF, and the offset of the first folder of tags."""
    if content[:4] not in _TIFF_HEADS:
        raise ValueError("not TIFF tags")
    order, is_big = _TIFF_HEADS[content[:4]], b"+" in content[:4]
    return (
        order,
        is_big,
        struct.unpack_from(order + ("Q" if is_big else "I"), content, 4 + 4 * is_big)[0],
    )


def _tags(content: bytes, order: str, is_big: bool, at: int) -> Iterator[_Tag]:
    head, entry, step, inside = ("Q", "HHQ", 20, 12) if is_big else ("H", "HHI", 12, 8)
    n_tags = struct.unpack_from(order + head, content, at)[0]
    if n_tags > _MAX_TAGS:
        raise ValueError(f"more than {_MAX_TAGS:,} tags")
    first = at + struct.calcsize(order + head)
    for start in range(first, first + n_tags * step, step):
        number, kind, count = struct.unpack_from(order + entry, content, start)
        code = _INTEGERS.get(kind)
        value = (
            struct.unpack_from(order + code, content, start + inside)[0]
            if code and count == 1
            else 0
        )
        yield _Tag(number, kind, count, value)
