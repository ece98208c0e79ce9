"""Claims about modes: pixels are those that an image viewer shows, and what changed is remarked."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from plugins_manifest.errors import UserError
from plugins_manifest.images import decode_image, load_image, parse_image

RAMP = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (16, 1))
COLORS = np.array([[[255, 0, 0], [0, 128, 0], [10, 20, 240], [90, 90, 90]]], np.uint8).repeat(4, 0)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(picture: Image.Image, kind: str = "PNG", **options: Any) -> np.ndarray:
    return decode_image(encoded(picture, kind, **options), name="picture")


def remarks_of(picture: Image.Image, kind: str = "PNG", **options: Any) -> tuple[str, ...]:
    return parse_image(encoded(picture, kind, **options), name="picture").remarks


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_plain_rgb_is_read_as_it_is_without_a_remark(kind: str) -> None:
    found = parse_image(encoded(Image.fromarray(COLORS), kind), name="picture")
    assert np.array_equal(found.pixels, COLORS) and found.remarks == ()
    assert found.pixels.dtype == np.uint8


def test_lossless_webp_is_read_as_it_is() -> None:
    assert np.array_equal(pixels_of(Image.fromarray(COLORS), "WEBP", lossless=True), COLORS)


def test_a_jpeg_has_the_pixels_of_its_decoder() -> None:
    content = encoded(Image.fromarray(COLORS), "JPEG", quality=90)
    with Image.open(io.BytesIO(content)) as picture:
        assert np.array_equal(decode_image(content, name="p"), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled(kind: str) -> None:
    picture = Image.fromarray(RAMP.astype(np.uint16) * 257)
    assert np.array_equal(pixels_of(picture, kind)[..., 1], RAMP)


def test_16_bit_gray_of_either_byte_order_is_scaled() -> None:
    values = RAMP.astype(np.uint16) * 257
    big = Image.frombytes("I;16B", (64, 16), values.astype(">u2").tobytes())
    assert np.array_equal(pixels_of(big, "TIFF")[..., 0], RAMP)


def tiff_with_tag(content: bytes, number: int, value: int) -> bytes:
    """Return a TIFF with another value of a tag of one SHORT."""
    at = content.index(struct.pack("<HHI", number, 3, 1))
    return content[: at + 8] + struct.pack("<H", value) + content[at + 10 :]


def test_16_bit_gray_whose_zero_is_white_is_inverted() -> None:
    content = encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), "TIFF")
    found = decode_image(tiff_with_tag(content, 262, 0), name="p")
    assert np.array_equal(found[..., 0], 255 - RAMP)


def test_12_bit_gray_is_scaled_by_its_own_highest_value() -> None:
    content = encoded(Image.fromarray(np.full((2, 2), 0, np.uint16)), "TIFF")
    content = tiff_with_tag(content, 258, 12)
    at = struct.unpack_from("<I", content, content.index(struct.pack("<HHI", 273, 4, 1)) + 8)[0]
    # two pixels of 12 bits a row: 4095 and 2048
    found = decode_image(content[:at] + b"\xff\xf8\x00" * 2 + content[at + 6 :] + b"\0\0", name="p")
    assert found[0, :, 0].tolist() == [255, 128]


def test_32_bit_gray_is_read_as_16_bit_with_a_remark_and_refused_beyond() -> None:
    values = RAMP.astype(np.int32) * 257
    picture = Image.fromarray(values)
    assert np.array_equal(pixels_of(picture, "TIFF")[..., 0], RAMP)
    assert remarks_of(picture, "TIFF") == ("gray values of 32 bits are read as 0 to 65535",)
    for wrong in (values - 1, values * 2):
        with pytest.raises(UserError, match="save it with 8 or 16 bits"):
            pixels_of(Image.fromarray(wrong), "TIFF")


def test_float_pixels_are_read_as_0_to_1_and_refused_beyond() -> None:
    values = RAMP.astype(np.float32) / 255
    assert np.array_equal(pixels_of(Image.fromarray(values), "TIFF")[..., 0], RAMP)
    assert remarks_of(Image.fromarray(values), "TIFF") == ("float pixels are read as 0 to 1",)
    for wrong in (values * 255, np.full_like(values, np.nan), values - 0.5):
        with pytest.raises(UserError, match="float pixels outside of 0 to 1"):
            pixels_of(Image.fromarray(wrong), "TIFF")


def test_one_bit_is_black_and_white() -> None:
    board = (np.indices((8, 8)).sum(0) % 2).astype(bool)
    for kind in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(pixels_of(Image.fromarray(board), kind)[..., 0], board * 255)


def test_transparent_parts_are_white() -> None:
    strokes = np.zeros((4, 4, 4), np.uint8)
    strokes[1, :, 3], strokes[2, :, 3] = 255, 128  # black, half of it
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        found = parse_image(encoded(Image.fromarray(strokes), kind, **options), name="p")
        assert found.pixels[:, 0, 0].tolist() == [255, 0, 127, 255]
        assert found.remarks == ("transparent parts are shown on white",)


def test_opaque_alpha_changes_nothing() -> None:
    rgba = np.dstack([COLORS, np.full(COLORS.shape[:2], 255, np.uint8)])
    found = parse_image(encoded(Image.fromarray(rgba)), name="p")
    assert np.array_equal(found.pixels, COLORS) and found.remarks == ()


def test_gray_with_alpha_is_shown_on_white() -> None:
    gray = np.dstack([np.full((2, 2), 100, np.uint8), np.array([[255, 0], [0, 255]], np.uint8)])
    found = pixels_of(Image.fromarray(gray, "LA"))
    assert found[..., 0].tolist() == [[100, 255], [255, 100]]


def test_a_palette_is_resolved_and_its_transparent_entry_is_white() -> None:
    picture = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), "P")
    picture.putpalette([1, 2, 3, 200, 100, 50, 7, 8, 9])
    assert pixels_of(picture)[0].tolist() == [[1, 2, 3], [200, 100, 50]]
    assert pixels_of(picture, transparency=1)[0].tolist() == [[1, 2, 3], [255, 255, 255]]
    partly = pixels_of(picture, transparency=bytes([255, 0, 255]))
    assert partly[1].tolist() == [[255, 255, 255], [7, 8, 9]]


def test_a_transparent_gray_value_is_white() -> None:
    picture = Image.fromarray(np.array([[0, 9]], np.uint8))
    assert pixels_of(picture, transparency=9)[0, :, 0].tolist() == [0, 255]
    deep = Image.fromarray(np.array([[0, 257 * 9]], np.uint16))
    assert pixels_of(deep, transparency=257 * 9)[0, :, 0].tolist() == [0, 255]


def test_cmyk_is_converted_with_a_remark() -> None:
    picture = Image.fromarray(COLORS).convert("CMYK")
    assert np.array_equal(pixels_of(picture, "TIFF"), COLORS)
    assert np.abs(pixels_of(picture, "JPEG", quality=100).astype(int) - COLORS).max() < 40
    assert remarks_of(picture, "TIFF") == ("CMYK is converted without a color profile",)


def test_ycbcr_is_converted() -> None:
    picture = Image.fromarray(COLORS).convert("YCbCr")
    assert np.abs(pixels_of(picture, "TIFF").astype(int) - COLORS).max() <= 2


def test_cielab_is_converted() -> None:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    picture = ImageCms.profileToProfile(Image.fromarray(COLORS), srgb, lab, outputMode="LAB")
    assert picture is not None
    found = pixels_of(picture, "TIFF").astype(int)
    assert np.abs(found - COLORS).max() <= 16  # 8 bits of L, a, b
    assert found[0, 3].tolist() == [90, 90, 90]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_photo_is_upright(kind: str, orientation: int) -> None:
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32], upright[:16, 32:], upright[16:, :32] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    found = pixels_of(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() <= (0 if kind != "JPEG" else 4)


def test_damaged_exif_is_remarked_on() -> None:
    for exif in (b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        found = parse_image(encoded(Image.fromarray(COLORS), "PNG", exif=exif), name="p")
        assert found.remarks == ("its EXIF data is damaged: it may not be upright",)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_read_with_a_remark(kind: str) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 100, 200)]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "lossless": True}
    found = parse_image(encoded(frames[0], kind, **options), name="p")
    assert found.pixels[0, 0].tolist() == [10, 10, 10]
    assert found.remarks == ("it is the first of 3 frames",)


def test_of_a_tiff_the_first_page_is_read_with_a_remark() -> None:
    pages = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 100)]
    found = parse_image(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]), name="p")
    assert found.pixels[0, 0].tolist() == [10, 10, 10]
    assert found.remarks == ("it is the first of several pages",)


def test_a_color_profile_is_remarked_on_unless_it_is_srgb() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert remarks_of(Image.fromarray(COLORS), icc_profile=srgb) == ()
    assert remarks_of(Image.fromarray(COLORS), icc_profile=lab) == ("its color profile is ignored",)


def test_large_pictures_are_converted_in_strips_alike(tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (2100, 4096, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    path = tmp_path / "large.bmp"
    Image.fromarray(pixels).save(path)
    assert np.array_equal(load_image(path).pixels, pixels[..., :3])
