"""The picture of a link preview: a title, one sentence, and three images of one prompt."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from plugins_manifest.outputs import one_line

SIZE_PX = (1200, 630)
_TILE_PX, _MARGIN_PX, _GAP_PX = 352, 48, 24
_TITLE_PX, _TEXT_PX, _LABEL_PX = 52, 28, 24
_PAPER, _INK, _FAINT = (255, 255, 255), (27, 31, 36), (87, 96, 106)
_QUALITY = 85


def draw_preview(title: str, sentence: str, tiles: Sequence[tuple[str, np.ndarray]]) -> bytes:
    """Return a JPEG file; at most three of the labeled images are drawn."""
    page = Image.new("RGB", SIZE_PX, _PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN_PX, 24), one_line(title, longest=38), fill=_INK, font=_font(_TITLE_PX))
    lines = textwrap.wrap(one_line(sentence), 78, max_lines=2, placeholder=" ...")
    draw.multiline_text((_MARGIN_PX, 96), "\n".join(lines), fill=_FAINT, font=_font(_TEXT_PX))
    for place, (label, pixels) in enumerate(tiles[:3]):
        left = _MARGIN_PX + place * (_TILE_PX + _GAP_PX)
        top = SIZE_PX[1] - _TILE_PX - _MARGIN_PX - 34
        page.paste(_tile(pixels), (left, top))
        below = (left, top + _TILE_PX + 8)
        draw.text(below, one_line(label, longest=34), fill=_INK, font=_font(_LABEL_PX))
    buffer = BytesIO()
    page.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


def _tile(pixels: np.ndarray) -> Image.Image:
    """Return an image cut to a square and scaled to the tile."""
    image = Image.fromarray(pixels)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((_TILE_PX, _TILE_PX), Image.Resampling.LANCZOS)
