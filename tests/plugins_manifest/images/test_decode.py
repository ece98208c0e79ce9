"""Claims about files: what is opened, what is refused and how, and that nothing is run or waits."""

import ast
import os
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from plugins_manifest.errors import UserError
from plugins_manifest.images import decode_image, image_size, load_image, read_image
from tests.plugins_manifest.images.test_modes import COLORS, encoded

ROOT = Path(__file__).resolve().parents[3]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of(width_px: int, height_px: int, *extra: bytes) -> bytes:
    """Return a small PNG that states a size; `extra` are more chunks."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(min((3 * width_px + 1) * height_px, 1 << 16))))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + rows + chunk(b"IEND", b"")


def test_only_one_module_opens_images() -> None:
    folders = (
        "bench",
        "leaderboard",
        "metrics",
        "plugins_manifest",
        "pocket",
        "runners",
        "xadapter",
    )
    opening = re.compile(r"^(Image|PIL\.Image|Image\.core)\.open$")
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if "Image" in (text := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and opening.match(ast.unparse(node.func))
    }
    assert found == {"plugins_manifest/images/decode.py"}


def test_postscript_under_an_image_name_starts_no_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, mark = tmp_path / "tools", tmp_path / "was-run"
    tools.mkdir()
    (tools / "gs").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (tools / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    assert shutil.which("gs") == str(tools / "gs")
    for name in ("a.png", "a.jpg", "a.eps", "a.tif"):
        (tmp_path / name).write_bytes(EPS)
        with pytest.raises(UserError, match="its content is PostScript, not PNG, JPEG"):
            read_image(tmp_path / name)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"GIF89a" + bytes(40), "GIF"),
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS\0\1" + bytes(40), "Photoshop"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"hello", "not PNG, JPEG, WebP, BMP or TIFF"),
        (b"", "empty"),
    ],
)
def test_other_content_is_named(content: bytes, word: str) -> None:
    with pytest.raises(UserError, match=word) as caught:
        decode_image(content, name="photo.png")
    assert str(caught.value).startswith("photo.png is not a readable image (")
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize(
    "size_px", [(60_000, 60_000), (12_001, 9_000), (70_000, 8), (2**31 - 1, 1)]
)
def test_a_bomb_is_refused_before_it_is_decoded(size_px: tuple[int, int]) -> None:
    for read in (decode_image, image_size):
        with pytest.raises(UserError, match=r"megapixels|exceeds|too large"):
            read(png_of(*size_px), name="bomb.png")


def test_compressed_texts_are_bounded() -> None:
    bomb = zlib.compress(bytes(80 << 20), 9)
    for part in (chunk(b"zTXt", b"k\0\0" + bomb), chunk(b"iCCP", b"k\0\0" + bomb)):
        with pytest.raises(UserError, match="is not a readable image"):
            decode_image(png_of(8, 8, part), name="p.png")


def test_a_tiff_of_many_tag_values_is_refused() -> None:
    content = bytearray(encoded(Image.fromarray(COLORS), "TIFF"))
    at = content.index(struct.pack("<HHI", 258, 3, 3))
    struct.pack_into("<I", content, at + 4, 50_000_000)
    with pytest.raises(UserError, match="values in its tags"):
        decode_image(bytes(content), name="p.tif")


def test_a_jpeg_of_many_scans_is_refused() -> None:
    content = encoded(Image.fromarray(COLORS), "JPEG", progressive=True)
    at = content.rindex(b"\xff\xda")
    scan = content[at:-2]
    with pytest.raises(UserError, match="scans"):
        decode_image(content[:-2] + scan * 5000 + content[-2:], name="p.jpg")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_a_truncated_file_is_refused_also_where_other_code_allows_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(pixels), kind)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(UserError, match=r"^p is not a readable image \("):
            decode_image(content[: int(len(content) * share)], name="p")


def test_every_flipped_bit_of_a_png_is_seen() -> None:
    content = encoded(Image.fromarray(COLORS))
    for bit in range(64, len(content) * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UserError):
            decode_image(bytes(flipped), name="p")


def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    for name in ("fifo.png", "folder.png"):
        with pytest.raises(UserError, match=f"{name} is not a regular file"):
            read_image(tmp_path / name)
    for path in (
        tmp_path / "loop.png",
        Path("a\0b.png"),
        tmp_path / ("x" * 300),
        Path("/dev/zero"),
    ):
        with pytest.raises(UserError, match=r"cannot be read|not a regular file"):
            read_image(path)
    for name in ("gone.png", "missing.png"):
        with pytest.raises(UserError, match="there is no image"):
            read_image(tmp_path / name)


def test_the_name_decides_nothing(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(Image.fromarray(COLORS)))
    assert np.array_equal(load_image(tmp_path / "photo.jpg").pixels, COLORS)


def test_a_header_gives_the_size_without_decoding() -> None:
    assert image_size(png_of(3000, 2000), name="p") == (3000, 2000)
