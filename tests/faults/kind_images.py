"""Images of unknown origin: the pixels that a viewer shows, or one clear error."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from plugins_manifest.errors import UserError
from plugins_manifest.images import load_image, read_image
from plugins_manifest.images.decode import MAX_BYTES
from tests.faults.base import Fault, Kind, refuses

_SIZE_PX = (24, 16)
_OTHERS = {
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(mark) (w) file closefile\n",
    "PostScript with preview": b"\xc5\xd0\xd3\xc6" + bytes(60),
    "PDF": b"%PDF-1.7\n1 0 obj\n<< /OpenAction << /S /Launch >> >>\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
    "GIF": b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;",
    "Photoshop": b"8BPS\0\1" + bytes(100),
    "HEIF": b"\0\0\0\x18ftypheic" + bytes(100),
    "ZIP": b"PK\3\4" + bytes(100),
    "FITS": b"SIMPLE  =                    T" + bytes(2880),
    "ICO": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + bytes(100),
    "PPM": b"P6 99999 99999 255\n",
    "text": "не картинка".encode(),
    "nothing": b"",
    "zeros": bytes(4096),
}
_ENDINGS = ("png", "PNG", "jpg", "JPEG", "webp", "bmp", "tif", "TIFF")
_DAMAGES = ("none", "none", "cut", "flips", "flips", "zeros", "numbers", "insert", "other")
# modes that each format can store
_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "LAB"),
}


def _picture(mode: str, rng: Random) -> tuple[Image.Image, np.ndarray]:
    """Return a drawn picture and what a viewer shows of it, made without its decoder."""
    width_px, height_px = _SIZE_PX
    noise = np.random.default_rng(rng.getrandbits(32))
    gray = noise.integers(0, 256, (height_px, width_px), dtype=np.uint8)
    rgb = np.dstack([gray, gray[::-1], 255 - gray])
    alpha = noise.choice(np.array([0, 128, 255], np.uint8), (height_px, width_px))
    shown, bits = np.repeat(gray[..., None], 3, axis=2), gray > 127
    palette = np.arange(255, -1, -1, dtype=np.uint8).repeat(3)
    indexed = Image.fromarray(gray, "P")
    indexed.putpalette(palette.tolist())
    lab = np.dstack([gray, np.full_like(gray, 128), gray])
    return {
        "1": (Image.fromarray(bits), np.where(bits[..., None], 255, 0 * shown).astype(np.uint8)),
        "L": (Image.fromarray(gray), shown),
        "LA": (Image.fromarray(np.dstack([gray, alpha]), "LA"), _on_white(shown, alpha)),
        "I;16": (Image.fromarray(gray.astype(np.uint16) * 257), shown),
        "I": (Image.fromarray(gray.astype(np.int32) * 257), shown),
        "F": (Image.fromarray(gray.astype(np.float32) / 255), shown),
        "P": (indexed, 255 - shown),
        "RGB": (Image.fromarray(rgb), rgb),
        "RGBA": (Image.fromarray(np.dstack([rgb, alpha]), "RGBA"), _on_white(rgb, alpha)),
        "CMYK": (Image.fromarray(rgb).convert("CMYK"), rgb),
        "YCbCr": (Image.fromarray(rgb).convert("YCbCr"), rgb),
        "LAB": (Image.fromarray(lab, "LAB"), rgb),
    }[mode]


def _on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    more = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    picture.save(buffer, kind, **{**more, **options})
    return buffer.getvalue()


def _intact(folder: Path, *, kind: str, mode: str, orientation: int, seed: int) -> None:
    picture, shown = _picture(mode, Random(seed))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = folder / f"x.{Random(seed).choice(_ENDINGS)}"
    path.write_bytes(_encoded(picture, kind, **({} if kind == "BMP" else {"exif": exif})))
    turned = Image.fromarray(shown)
    if kind != "BMP":
        turned.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(turned))
    pixels = read_image(path)
    assert pixels.shape == expected.shape and pixels.dtype == np.uint8
    # of lossy ones, and of a BMP whose header decides whether it has alpha, the shape is known
    if mode != "LAB" and kind != "JPEG" and (kind, mode) != ("BMP", "RGBA"):
        off = int(np.abs(pixels.astype(int) - expected).max())
        assert off <= (3 if mode == "YCbCr" else 1 if "A" in mode else 0), f"{off} levels off"


def _damaged(folder: Path, *, kind: str, mode: str, damage: str, seed: int) -> None:
    rng = Random(seed)
    picture, _ = _picture(mode, rng)
    content = bytearray(_encoded(picture, kind))
    whole = bytes(content)
    if damage == "cut":
        del content[rng.randrange(len(content)) :]
    elif damage == "flips":
        for _ in range(rng.choice((1, 1, 3, 20))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif damage == "zeros":
        at = rng.randrange(len(content))
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    elif damage == "numbers":  # of headers: sizes, counts, offsets
        at = rng.randrange(min(len(content) - 4, 200))
        content[at : at + 4] = rng.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"\0\1\0\0"))
    else:
        at = rng.randrange(len(content))
        content[at:at] = rng.randbytes(rng.randrange(1, 5000))
    path = folder / f"x.{kind.lower()}"
    path.write_bytes(content)
    try:
        pixels = read_image(path)
    except UserError:
        refuses(lambda: read_image(path), path.name)
        return
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
    if kind == "PNG" and bytes(content[: len(whole)]) != whole:
        raise AssertionError("a changed PNG was read: its checksums were not verified")


def _other(folder: Path, *, content: bytes, ending: str) -> None:
    (folder / f"x.{ending}").write_bytes(content)
    refuses(lambda: read_image(folder / f"x.{ending}"), f"x.{ending} is not a readable image")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width_px: int, height_px: int, *chunks: bytes) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0))
    rows = _chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + rows + _chunk(b"IEND", b"")


def _bombs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    big = zlib.compress(bytes(60 << 20), 9)
    for size in ((65_500, 65_500), (2**31 - 1, 2**31 - 1), (100_000, 3), (3, 100_000), (0, 5)):
        yield f"PNG of {size[0]} x {size[1]} px", partial(_png, *size)
    for name in (b"zTXt", b"iCCP"):
        yield f"PNG with a large {name.decode()}", partial(_png, 8, 8, _chunk(name, b"k\0\0" + big))
    text = _chunk(b"iTXt", b"k\0\1\0\0\0" + big)
    yield "PNG with a large iTXt", partial(_png, 8, 8, text)
    yield "PNG of many chunks", partial(_png, 8, 8, _chunk(b"aaAa", b"") * 200_000)
    yield "JPEG of many scans", _many_scans
    yield "TIFF of many values", partial(_tiff_count, 60_000_000)
    bmp = bytearray(_encoded(Image.new("RGB", (8, 8)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 2**31 - 1, -(2**31))
    yield "BMP of a negative size", partial(bytes, bmp)


def _many_scans() -> bytes:
    content = _encoded(Image.new("RGB", (64, 64), "red"), "JPEG", progressive=True)
    at = content.rindex(b"\xff\xda")
    return content[:-2] + content[at:-2] * 9000 + content[-2:]


def _tiff_count(count: int) -> bytes:
    content = bytearray(_encoded(Image.new("RGB", (8, 8)), "TIFF"))
    at = content.index(struct.pack("<HHI", 258, 3, 3))
    content[at + 4 : at + 8] = struct.pack("<I", count)
    return bytes(content)


def _bomb(folder: Path, *, make: Callable[[], bytes]) -> None:
    (folder / "bomb.img").write_bytes(make())
    refuses(lambda: read_image(folder / "bomb.img"), "bomb.img")


def _special(folder: Path, *, what: str) -> None:
    path = folder / "x.png"
    if what == "FIFO":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path)
    elif what == "link to a device":
        path.symlink_to("/dev/zero")
    elif what == "link to nothing":
        path.symlink_to(folder / "nothing")
    elif what == "sparse file":
        with path.open("wb") as stream:
            stream.truncate(MAX_BYTES + 1)
    else:
        path = Path("a\0b.png") if what == "zero byte in the name" else folder / ("x" * 5000)
    refuses(lambda: read_image(path))


def _animated(folder: Path, *, kind: str) -> None:
    frames = [Image.new("RGB", (9, 9), (value, 0, 0)) for value in (10, 90, 200)]
    (folder / "x").write_bytes(_encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    found = load_image(folder / "x")
    assert found.pixels[0, 0].tolist() == [10, 0, 0] and "first of" in found.remarks[0]


def _named() -> Iterator[Fault]:
    for what, content in _OTHERS.items():
        yield Fault(f"{what} as x.png", partial(_other, content=content, ending="png"))
    for name, make in _bombs():
        yield Fault(name, partial(_bomb, make=make))
    for what in ("FIFO", "folder", "loop", "link to a device", "link to nothing", "sparse file"):
        yield Fault(what, partial(_special, what=what))
    for what in ("zero byte in the name", "long name"):
        yield Fault(what, partial(_special, what=what))
    for kind in ("PNG", "WEBP", "TIFF"):
        yield Fault(f"animated {kind}", partial(_animated, kind=kind))


def _faults(rng: Random) -> Iterator[Fault]:
    yield from _named()
    while True:
        kind, seed = rng.choice(sorted(_MODES)), rng.getrandbits(32)
        mode = rng.choice(_MODES[kind])
        damage = rng.choice(
            ("none", "cut", "flips", "flips", "zeros", "numbers", "insert", "other")
        )
        if damage == "none":
            turn = rng.randint(1, 8)
            name = f"{kind} {mode}, orientation {turn}, seed {seed}"
            yield Fault(name, partial(_intact, kind=kind, mode=mode, orientation=turn, seed=seed))
        elif damage == "other":
            what, ending = rng.choice(sorted(_OTHERS)), rng.choice(_ENDINGS)
            content = _OTHERS[what] + rng.randbytes(rng.choice((0, 10, 1000)))
            if what == "nothing":
                content = b""
            yield Fault(
                f"{what} as .{ending}, seed {seed}", partial(_other, content=content, ending=ending)
            )
        else:
            name = f"{kind} {mode}, {damage}, seed {seed}"
            yield Fault(name, partial(_damaged, kind=kind, mode=mode, damage=damage, seed=seed))


KIND = Kind(
    "images",
    "A numbers",
    "an image is shown as a viewer does, or refused",
    _faults,
    count=300,
    sample=40,
)
