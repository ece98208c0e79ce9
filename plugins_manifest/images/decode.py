"""Decode image files of unknown origin: the only place that opens them.

PNG, JPEG, WebP, BMP and TIFF, recognized by content and never by name, with bounds that are checked
before anything is decoded. Pixels are uint8 RGB [height, width, 3], upright, as an image viewer
shows them; `remarks` are about everything that was changed or left out on the way.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFile

from plugins_manifest.errors import UserError
from plugins_manifest.images.headers import check_header, check_scans, orientation_of
from plugins_manifest.images.modes import Modes
from plugins_manifest.text import first_line, shown_path

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 108_000_000  # the largest sensors of phones and of medium-format cameras
MAX_SIDE_PX = 65_535
MAX_BYTES = 256 << 20
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")

# everything that Pillow's decoders raise for damaged files
_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError),
    *(AssertionError, EOFError, MemoryError, RuntimeError, struct.error, zlib.error, Warning),
    Image.DecompressionBombError,
)
# content of other formats, to name them in the message: (offset, bytes, name)
_OTHERS = (
    *((0, b"%!PS", "PostScript"), (0, b"\xc5\xd0\xd3\xc6", "PostScript"), (0, b"%PDF", "PDF")),
    *((0, b"GIF8", "GIF"), (0, b"8BPS", "Photoshop"), (0, b"PK\3\4", "ZIP"), (4, b"ftyp", "HEIF")),
    *((0, b"\xff\x0a", "JPEG XL"), (4, b"JXL ", "JPEG XL"), (4, b"jP  ", "JPEG 2000")),
    *(
        (0, b"<", "SVG, XML or HTML"),
        (0, b"gimp xcf", "GIMP"),
        (0, b"version https://git-lfs", "LFS"),
    ),
    (0, b"\0\5\x16\7", "AppleDouble (macOS)"),
)

# what Pillow warns of is refused or remarked on here
warnings.filterwarnings("ignore", module=r"PIL\.")


Fault = Literal["not-an-image", "broken", "too-large"]


class ImageError(UserError):
    """Content that cannot be decoded; `fault` is why, for programs."""

    def __init__(self, message: str, *, fault: Fault) -> None:
        super().__init__(message)
        self.fault: Fault = fault


@dataclass(frozen=True)
class DecodedImage:
    """An image as uint8 RGB [height, width, 3], and what a user should know about it."""

    pixels: np.ndarray
    remarks: tuple[str, ...] = ()


def read_image(path: Path) -> np.ndarray:
    """Return an image file as uint8 RGB [height, width, 3]; raise `UserError` if it is not one."""
    return load_image(path).pixels


def load_image(path: Path) -> DecodedImage:
    """Decode an image file; raise `UserError` for everything that cannot be decoded."""
    return parse_image(_read(path), name=shown_path(path))


def decode_image(content: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return an image's bytes as uint8 RGB [height, width, 3]; `name` is for the `UserError`."""
    return parse_image(content, name=name, max_pixels=max_pixels).pixels


def parse_image(content: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode an image's bytes; raise `UserError` for everything that cannot be decoded."""
    with _opened(content, name, max_pixels) as picture:
        try:
            return _decoded(picture)
        except _DECODER_ERRORS as error:
            raise _unreadable(name, _reason(error), fault=_fault(error)) from error


def image_size(content: bytes, *, name: str, is_upright: bool = False) -> tuple[int, int]:
    """Return width and height in px, without decoding; `ImageError` for other bytes.

    As stored, or upright as the decoded pixels are.
    """
    with _opened(content, name, MAX_PIXELS) as picture:
        width, height = picture.size
        return (height, width) if is_upright and _is_on_its_side(picture) else (width, height)


def is_one_color(pixels: np.ndarray) -> bool:
    """Return whether all pixels are equal."""
    return bool((pixels == pixels[0, 0]).all())


# --- files


def _read(path: Path) -> bytes:
    """Return a regular file's bytes; a FIFO, a device or a loop is refused without waiting."""
    name = shown_path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{name} is not a regular file: name an image file")
        handle = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
        with os.fdopen(handle, "rb") as stream:
            # the file may have been replaced since
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise UserError(f"{name} is not a regular file: name an image file")
            if os.fstat(handle).st_size > MAX_BYTES:
                raise _unreadable(name, f"more than {MAX_BYTES >> 20} MiB", fault="too-large")
            content = stream.read(MAX_BYTES + 1)  # it may still grow
    except FileNotFoundError as error:
        raise UserError(f"there is no image {name}: check the path") from error
    except (OSError, ValueError, MemoryError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"the image {name} cannot be read ({why}): replace it") from error
    return content


# --- decoding


def _opened(content: bytes, name: str, max_pixels: int) -> Image.Image:
    """Return the opened picture, whose header is within the bounds; nothing is decoded yet."""
    if len(content) > MAX_BYTES:
        raise _unreadable(name, f"more than {MAX_BYTES >> 20} MiB", fault="too-large")
    if not content:
        raise _unreadable(name, "it is empty")
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # else Pillow fills what is missing with gray
    try:
        check_header(content)
        picture = Image.open(io.BytesIO(content), formats=_FORMATS)
    except _DECODER_ERRORS as error:
        raise _unreadable(name, _reason(error, content), fault=_fault(error)) from error
    width_px, height_px = picture.size
    if width_px * height_px > max_pixels or max(picture.size) > MAX_SIDE_PX:
        picture.close()
        raise ImageError(
            f"{name} is {width_px} x {height_px} px, the most is {max_pixels / 1e6:.0f} megapixels "
            f"and {MAX_SIDE_PX} px a side: scale it down",
            fault="too-large",
        )
    try:
        check_scans(content, width_px * height_px)
    except ValueError as error:
        raise _unreadable(name, str(error)) from error
    return picture


def _unreadable(name: str, why: str, *, fault: Fault = "broken") -> ImageError:
    return ImageError(f"{name} is not a readable image ({why}): replace it", fault=fault)


def _fault(error: BaseException) -> Fault:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not-an-image"
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    return "too-large" if isinstance(error, bombs) else "broken"


def _reason(error: BaseException, content: bytes = b"") -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        found = [what for at, mark, what in _OTHERS if content.startswith(mark, at)]
        kind = f"its content is {found[0]}, not" if found else "its content is not"
        return f"{kind} PNG, JPEG, WebP, BMP or TIFF"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {MAX_PIXELS / 1e6:.0f} megapixels"
    if isinstance(error, MemoryError):
        return "memory does not suffice"
    return first_line(error)


def _decoded(picture: Image.Image) -> DecodedImage:
    modes = Modes(picture)
    n_frames = getattr(picture, "n_frames", 1) if picture.format in ("PNG", "WEBP") else 1
    if n_frames > 1:
        modes.remarks.append(f"it is the first of {n_frames} frames")
    if picture.format == "TIFF" and getattr(picture, "is_animated", False):
        modes.remarks.append("it is the first of several pages")
    picture.load()  # turns a TIFF upright
    pixels = modes.to_rgb()
    exif = picture.info.get("exif")
    if exif and picture.format != "TIFF":
        try:
            turn = _TURNS.get(orientation_of(exif))
        except (ValueError, struct.error):
            modes.remarks.append("its EXIF data is damaged: it may not be upright")
        else:
            pixels = pixels if turn is None else np.ascontiguousarray(turn(pixels))
    return DecodedImage(pixels, tuple(modes.remarks))


def _is_on_its_side(picture: Image.Image) -> bool:
    """Return whether the stored rows are the columns of the upright picture."""
    if picture.format == "TIFF":
        return getattr(picture, "tag_v2", {}).get(_ORIENTATION) in _SIDEWAYS
    exif = picture.info.get("exif")
    try:
        return exif is not None and orientation_of(exif) in _SIDEWAYS
    except (ValueError, struct.error):
        return False


_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)
# EXIF 2.32, tag Orientation: what makes the stored rows and columns upright
_TURNS: Mapping[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}
