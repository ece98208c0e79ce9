"""The pictures of a publication: a WebP thumbnail of every image, on request the PNG itself.

Both contain pixels alone: text, camera facts and color profiles are removed.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from PIL import Image

from bench.errors import UserError
from bench.publish.format import MAX_OBJECT_BYTES, THUMBNAIL_SIDE_PX, Ending, object_name
from bench.store.files import decode_image, write_bytes

_QUALITY, _EFFORT = 85, 4  # of 100, of 6
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
# chunks about displaying pixels alone (PNG specification, chapter 11)
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"sRGB", b"gAMA", b"cHRM", b"pHYs"}


@dataclass(frozen=True)
class Thumbnails:
    """How thumbnails are written; of pictures that keep their size lossless, or in a quality."""

    small_quality: int | None = None  # of 100

    @property
    def recipe(self) -> str:
        """Return everything that changes bytes: thumbnails of another recipe are made again."""
        small = "" if self.small_quality is None else f", small ones {self.small_quality}"
        return f"webp {THUMBNAIL_SIDE_PX} px, quality {_QUALITY}{small}, effort {_EFFORT}"

    def encode(self, pixels: Image.Image) -> bytes:
        """Return WebP of at most `THUMBNAIL_SIDE_PX` on the longer side, never enlarged."""
        buffer = io.BytesIO()
        if max(pixels.size) > THUMBNAIL_SIDE_PX:
            small = pixels.copy()
            small.thumbnail((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX), Image.Resampling.LANCZOS)
            small.save(buffer, "WEBP", quality=_QUALITY, method=_EFFORT)
        elif self.small_quality is None:
            pixels.save(buffer, "WEBP", lossless=True, method=_EFFORT)
        else:
            pixels.save(buffer, "WEBP", quality=self.small_quality, method=_EFFORT)
        return buffer.getvalue()


LOSSLESS = Thumbnails()


class UploadQueue:
    """Objects to upload to a store; existing ones are only counted."""

    def __init__(self, folder: Path, existing: Mapping[str, int]) -> None:
        self._folder, self._existing = folder, existing
        self._lock = Lock()
        self.sizes: dict[str, int] = {}  # every object of this publication, in bytes
        self.new: dict[str, Path] = {}

    def keep(self, name: str) -> bool:
        """Count an object if the store has it already; return whether it has."""
        if name not in self._existing:
            return False
        with self._lock:
            self.sizes[name] = self._existing[name]
        return True

    def add(self, content: bytes, ending: Ending) -> str:
        """Queue a content and return its name; raise `UserError` above the limit of readers."""
        if len(content) > MAX_OBJECT_BYTES[ending]:
            raise UserError(
                f"a {ending} file of {len(content):,} bytes is above the limit of readers "
                f"({MAX_OBJECT_BYTES[ending]:,}): publish fewer plugins or cases as one run"
            )
        name = object_name(content, ending)
        with self._lock:
            if name in self.sizes:
                return name
            self.sizes[name] = len(content)
        if name not in self._existing:
            path = self._folder / name
            write_bytes(path, content)
            with self._lock:
                self.new[name] = path
        return name


@dataclass(frozen=True)
class Published:
    """Names of one picture's objects; `image` is None if the original is not published."""

    image: str | None
    thumbnail: str


def publish_picture(
    content: bytes, queue: UploadQueue, thumbnails: Thumbnails, *, with_original: bool
) -> Published:
    """Queue a PNG file's objects; raise `UserError` if it is not a readable picture."""
    try:
        pixels = Image.fromarray(decode_image(content, name="it"))
    except UserError as error:
        raise UserError(f"it is not a readable picture: {error}") from error
    thumbnail = queue.add(thumbnails.encode(pixels), "webp")
    image = queue.add(_plain_png(content, pixels), "png") if with_original else None
    return Published(image, thumbnail)


def _plain_png(content: bytes, pixels: Image.Image) -> bytes:
    """Return the file itself if it contains pixels alone, else a new file of its pixels."""
    kinds = list(_chunks(content))
    if kinds and set(kinds) <= _PIXEL_CHUNKS and kinds[-1] == b"IEND":
        return content
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG")
    return buffer.getvalue()


def _chunks(content: bytes) -> Iterator[bytes]:
    """Yield the kinds of a PNG's chunks; a last b"" means bytes that are not a chunk."""
    if not content.startswith(_PNG_HEAD):
        return
    at = len(_PNG_HEAD)
    while at < len(content):
        if at + 12 > len(content):
            yield b""
            return
        (length,) = struct.unpack(">I", content[at : at + 4])
        yield content[at + 4 : at + 8]
        at += 12 + length
