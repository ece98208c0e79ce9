"""Image sheets, one WebP file for each plugin: rows are prompts, columns ways to make the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from bench.analysis import Arm, arm_order
from bench.analysis.glossary import method_name
from bench.scoring import ImageToScore, RunImages
from bench.store import RunStore
from plugins_manifest.outputs import file_name, one_line

MAX_ROWS = 8
TILE_PX = 192
_LABEL_PX, _HEADER_PX, _GAP_PX, _METHOD_GAP_PX, _MARGIN_PX = 264, 76, 6, 14, 16
_QUALITY, _EFFORT = 84, 1  # of WebP: 0.1 seconds and 0.2 MB for a sheet of 96 pocket images
_FONT_PX, _HEADER_FONT_PX = 21, 24
_LONGEST_LABEL = 600  # characters; cutting a line measures it again for every one
_PAPER, _INK, _FAINT, _EMPTY = (255, 255, 255), (25, 25, 25), (95, 95, 95), (232, 232, 232)


@dataclass(frozen=True)
class Column:
    """A heading of one or two lines, and for each row a picture, or why it is missing."""

    heading: tuple[str, str]
    cells: tuple[Image.Image | str, ...]


def write_sheets(gallery: RunImages, store: RunStore) -> dict[str, Path]:
    """Write sheet-<plugin>.webp for every plugin into the run; return plugin -> path.

    Rows are the first cases at their first seed.
    """
    written = {}
    for plugin in sorted({subject.image.plugin for subject in gallery.subjects}):
        group = [subject for subject in gallery.subjects if subject.image.plugin == plugin]
        path = store.tables_dir / f"sheet-{file_name(plugin)}.webp"
        buffer = BytesIO()
        draw_plugin(group).save(buffer, format="WEBP", quality=_QUALITY, method=_EFFORT)
        store.write_file(path, buffer.getvalue())
        written[plugin] = path
    return written


def draw_plugin(subjects: Sequence[ImageToScore]) -> Image.Image:
    """Draw the sheet of one plugin: condition, base, upgraded methods by t0, floor."""
    seed = min(subject.image.seed for subject in subjects)
    prompts = {s.image.case_id: s.image.prompt for s in subjects if s.image.seed == seed}
    cases = sorted(prompts)[:MAX_ROWS]
    by_arm: dict[Arm, dict[str, ImageToScore]] = {}
    for subject in subjects:
        if subject.image.seed == seed:
            by_arm.setdefault(_arm_of(subject), {})[subject.image.case_id] = subject
    columns = [_condition_column(subjects, cases)] if _has_condition(subjects) else []
    for arm in sorted(by_arm, key=arm_order):
        cells = tuple(_picture(by_arm[arm].get(case_id)) for case_id in cases)
        columns.append(Column(heading_of(arm), cells))
    return draw_sheet([prompts[case_id] for case_id in cases], columns)


def draw_sheet(row_labels: Sequence[str], columns: Sequence[Column]) -> Image.Image:
    """Draw labeled rows and columns on white; every cell is `TILE_PX` square."""
    step = TILE_PX + _GAP_PX
    lefts = _lefts(columns)
    width = max(lefts, default=_LABEL_PX) + TILE_PX + _MARGIN_PX
    height = 2 * _MARGIN_PX + _HEADER_PX + step * len(row_labels)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for r, label in enumerate(row_labels):
        top = _MARGIN_PX + _HEADER_PX + r * step
        _draw_label(draw, label, top=top)
    for left, column in zip(lefts, columns, strict=True):
        _draw_heading(draw, column.heading, left=left)
        for r, cell in enumerate(column.cells):
            top = _MARGIN_PX + _HEADER_PX + r * step
            _draw_cell(sheet, cell, left=left, top=top)
    return sheet


def _lefts(columns: Sequence[Column]) -> list[int]:
    """Return the left edges of the columns; a wider gap separates methods."""
    lefts: list[int] = []
    left, method = _MARGIN_PX + _LABEL_PX, None
    for column in columns:
        left += _METHOD_GAP_PX if method not in (None, column.heading[0]) else 0
        lefts.append(left)
        left, method = left + TILE_PX + _GAP_PX, column.heading[0]
    return lefts


def heading_of(arm: Arm) -> tuple[str, str]:
    """Return the method's plain name, and below it t0 and the scales that are not 1."""
    settings = [] if arm.t0 is None else [f"t0 {arm.t0:g}"]
    if arm.plugin_scale not in (None, 1.0):
        settings.append(f"plugin {arm.plugin_scale:g}")
    if arm.adapter_scale not in (None, 1.0):
        settings.append(f"adapter {arm.adapter_scale:g}")
    return method_name(arm.method), ", ".join(settings)


def _arm_of(subject: ImageToScore) -> Arm:
    i = subject.image
    return Arm(i.plugin, i.kind, i.method, i.t0, i.plugin_scale, i.adapter_scale)


def _has_condition(subjects: Sequence[ImageToScore]) -> bool:
    return any(subject.image.load_condition for subject in subjects)


def _condition_column(subjects: Sequence[ImageToScore], cases: Sequence[str]) -> Column:
    loaders = {s.image.case_id: s.image.load_condition for s in subjects}
    cells = []
    for case_id in cases:
        load = loaders[case_id]
        cells.append(Image.fromarray(load()) if load else "none")
    return Column(("Condition", ""), tuple(cells))


def _picture(subject: ImageToScore | None) -> Image.Image | str:
    if subject is None:
        return "not planned"
    if subject.missing:
        return subject.missing
    return Image.fromarray(subject.image.load_picture())


def _draw_cell(sheet: Image.Image, cell: Image.Image | str, *, left: int, top: int) -> None:
    if isinstance(cell, str):
        draw = ImageDraw.Draw(sheet)
        box = (left, top, left + TILE_PX - 1, top + TILE_PX - 1)
        draw.rectangle(box, fill=_EMPTY)
        font = ImageFont.load_default(_FONT_PX - 4)
        lines = _wrapped(draw, cell, font=font, width_px=TILE_PX - 16, max_lines=8)
        draw.multiline_text((left + 8, top + 8), "\n".join(lines), fill=_FAINT, font=font)
        return
    scale = TILE_PX / max(cell.size)
    size = (max(1, round(cell.width * scale)), max(1, round(cell.height * scale)))
    tile = cell.resize(size, Image.Resampling.LANCZOS)
    sheet.paste(tile, (left + (TILE_PX - size[0]) // 2, top + (TILE_PX - size[1]) // 2))


def _draw_heading(draw: ImageDraw.ImageDraw, heading: tuple[str, str], *, left: int) -> None:
    for line, (text, color) in enumerate(zip(heading, (_INK, _FAINT), strict=True)):
        font = ImageFont.load_default(_HEADER_FONT_PX - 2 * line)
        center = left + TILE_PX // 2
        draw.text(
            (center, _MARGIN_PX + line * 32), one_line(text), fill=color, font=font, anchor="ma"
        )


def _draw_label(draw: ImageDraw.ImageDraw, label: str, *, top: int) -> None:
    font = ImageFont.load_default(_FONT_PX)
    lines = _wrapped(draw, label, font=font, width_px=_LABEL_PX - 20, max_lines=6)
    text = "\n".join(lines)
    middle = (_MARGIN_PX, top + TILE_PX // 2)
    draw.multiline_text(middle, text, fill=_INK, font=font, anchor="lm", spacing=6)


def _wrapped(
    draw: ImageDraw.ImageDraw,
    text: str,
    *,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width_px: int,
    max_lines: int,
) -> list[str]:
    """Return lines that fit the width; the last one ends in an ellipsis if text is left over."""
    lines = [""]
    for word in one_line(text, longest=_LONGEST_LABEL).split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= width_px:
            lines[-1] = longer
        else:
            lines.append(_cut(draw, word, font=font, width_px=width_px))
    lines = [line for line in lines if line]
    if len(lines) > max_lines:
        last = _cut(draw, f"{lines[max_lines - 1]} ...", font=font, width_px=width_px)
        return [*lines[: max_lines - 1], last]
    return lines


def _cut(
    draw: ImageDraw.ImageDraw,
    word: str,
    *,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width_px: int,
) -> str:
    if draw.textlength(word, font=font) <= width_px:
        return word
    while word and draw.textlength(f"{word}...", font=font) > width_px:
        word = word[:-1]
    return f"{word}..."
