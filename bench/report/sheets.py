"""Image sheets, one WebP file for each plugin: rows are prompts, columns ways to make the image.

A sheet explains itself where it is shown alone: plugin, verdict, the native plugin as a column, the
score below each picture, and what each setting keeps over all prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from bench.analysis import Answer, Arm, answers, arm_order
from bench.analysis.glossary import function_word, kind_name, method_name, metric_name
from bench.analysis.numbers import number
from bench.analysis.summary import arm_of
from bench.analysis.words import PluginWord, percent
from bench.scoring import ImageToScore, RunImages, read_images
from bench.site.badges import COLORS
from bench.store import Row, RunStore, grouped, records
from plugins_manifest.outputs import file_name, one_line

Color = tuple[int, int, int]
MAX_ROWS = 8
TILE_PX = 192
_LABEL_PX, _HEADER_PX, _GAP_PX, _METHOD_GAP_PX, _MARGIN_PX = 264, 76, 6, 14, 16
_NOTE_PX, _TITLE_LINE_PX = 26, 32
_QUALITY, _EFFORT = 84, 1  # of WebP: 0.1 seconds and 0.2 MB for a sheet of 96 pocket images
_FONT_PX, _HEADER_FONT_PX, _TITLE_FONT_PX, _NOTE_FONT_PX = 21, 24, 34, 19
_LEAST_FONT_PX = 14
_LONGEST_LABEL = 600  # characters; cutting a line measures it again for every one
_PAPER, _INK, _FAINT, _EMPTY = (255, 255, 255), (25, 25, 25), (95, 95, 95), (232, 232, 232)


@dataclass(frozen=True)
class Column:
    """A heading of one or two lines; for each row a picture, or why it is missing, and its notes.

    Notes are lines below the picture; the first one is its score.
    """

    heading: tuple[str, str]
    cells: tuple[Image.Image | str, ...]
    notes: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Title:
    """A plugin's name and kind with its verdict, and lines of text below."""

    name: str
    kind: str = ""
    word: PluginWord | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class PluginResults:
    """What the tables state of one plugin: its answer, settings, and the scores of its images."""

    answer: Answer | None = None
    settings: Mapping[Arm, Row] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def metric(self) -> str | None:
        """Return the metric of the plugin's function."""
        return next((r["function_metric"] for r in self.settings.values()), None)

    def kept(self, arm: Arm) -> str:
        """Return what a setting keeps over all prompts, "" where that is not known."""
        row = self.settings.get(arm)
        if row is None or row["retention"] is None:
            return ""
        verb = "=" if arm.method in ("base", "floor", "base-floor") else "keeps"
        return f"{verb} {percent(row['retention'])}"

    def score(self, subject: ImageToScore | None) -> str:
        """Return the score of an image as text, "" where it has none."""
        value = None if subject is None else self.scores.get(subject.image.trial_id)
        return "" if value is None else number(value, digits=2)


def results_of(store: RunStore) -> dict[str, PluginResults]:
    """Return plugin -> what the run's tables state of it; without tables nothing."""
    rows = records(store.compatibility())
    found = {answer.plugin: answer for answer in answers(rows)}
    settings = grouped((row for row in rows if row["level"] == "setting"), "plugin")
    scores = _scores(store, {row["function_metric"] for row in rows if row["function_metric"]})
    return {
        plugin: PluginResults(
            answer=found.get(plugin),
            settings={arm_of(row): row for row in own},
            scores=scores.get((plugin, own[0]["function_metric"]), {}),
        )
        for (plugin,), own in settings.items()
    }


def write_sheets(gallery: RunImages, store: RunStore) -> dict[str, Path]:
    """Write sheet-<plugin>.webp for every plugin into the run; return plugin -> path.

    Rows are the first cases at their first seed: nobody chose them.
    """
    written, results = {}, results_of(store)
    for plugin in sorted({subject.image.plugin for subject in gallery.subjects}):
        group = [subject for subject in gallery.subjects if subject.image.plugin == plugin]
        path = store.tables_dir / f"sheet-{file_name(plugin)}.webp"
        sheet = draw_plugin(group, results.get(plugin, PluginResults()))
        store.write_file(path, webp_bytes(sheet))
        written[plugin] = path
    return written


def draw_overview(store: RunStore, *, max_rows: int = 2) -> bytes:
    """Return the sheets of all plugins below each other, with their first prompts, as PNG."""
    gallery, results = read_images(store), results_of(store)
    sheets = [
        draw_plugin(
            [subject for subject in gallery.subjects if subject.image.plugin == plugin],
            results.get(plugin, PluginResults()),
            max_rows=max_rows,
        )
        for plugin in sorted({subject.image.plugin for subject in gallery.subjects})
    ]
    size = (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets))
    whole, top = Image.new("RGB", size, _PAPER), 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    buffer = BytesIO()
    whole.save(buffer, format="PNG")
    return buffer.getvalue()


def webp_bytes(sheet: Image.Image) -> bytes:
    """Return a sheet as the content of a WebP file."""
    buffer = BytesIO()
    sheet.save(buffer, format="WEBP", quality=_QUALITY, method=_EFFORT)
    return buffer.getvalue()


def draw_plugin(
    subjects: Sequence[ImageToScore],
    results: PluginResults,
    *,
    max_rows: int = MAX_ROWS,
    tile_px: int = TILE_PX,
) -> Image.Image:
    """Draw the sheet of one plugin: condition, base, upgraded methods by t0, oracle, floor."""
    first = min(subjects, key=lambda subject: subject.image.seed).image
    prompts = {s.image.case_id: s.image.prompt for s in subjects if s.image.seed == first.seed}
    cases = sorted(prompts)[:max_rows]
    by_arm: dict[Arm, dict[str, ImageToScore]] = {}
    for subject in subjects:
        if subject.image.seed == first.seed:
            by_arm.setdefault(_arm_of(subject), {})[subject.image.case_id] = subject
    columns = [condition_column(subjects, cases)] if _has_condition(subjects) else []
    for arm in sorted(by_arm, key=arm_order):
        shown = [by_arm[arm].get(case_id) for case_id in cases]
        columns.append(
            Column(
                column_heading(arm, results.kept(arm)),
                tuple(picture_of(subject) for subject in shown),
                tuple((results.score(subject),) for subject in shown),
            )
        )
    title = Title(
        name=first.plugin,
        kind=kind_name(first.kind),
        word=results.answer.word if results.answer else None,
        lines=tuple(_lines(results, n_rows=len(cases), seed=first.seed, kind=first.kind)),
    )
    labels = [prompts[case_id] for case_id in cases]
    return draw_sheet(labels, columns, title=title, tile_px=tile_px)


def draw_sheet(
    row_labels: Sequence[str | Title],
    columns: Sequence[Column],
    *,
    title: Title | None = None,
    tile_px: int = TILE_PX,
) -> Image.Image:
    """Draw labeled rows and columns on white; every cell is a square of `tile_px`."""
    n_notes = max((len(note) for column in columns for note in column.notes), default=0)
    step = tile_px + (_NOTE_PX * n_notes + _METHOD_GAP_PX if n_notes else 0) + _GAP_PX
    lefts = _lefts(columns, tile_px)
    width = max(lefts, default=_LABEL_PX) + tile_px + _MARGIN_PX
    lines = _title_lines(title, width_px=width - 2 * _MARGIN_PX)
    title_px = 0 if title is None else 64 + _TITLE_LINE_PX * len(lines)
    top = _MARGIN_PX + title_px + _HEADER_PX
    sheet = Image.new("RGB", (width, top + _MARGIN_PX + step * len(row_labels)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    if title is not None:
        _draw_title(draw, title, lines)
    for r, label in enumerate(row_labels):
        _draw_label(draw, label, top=top + r * step, height_px=tile_px)
    for left, column in zip(lefts, columns, strict=True):
        place = {"center": left + tile_px // 2, "width_px": tile_px}
        _draw_heading(draw, column.heading, top=top - _HEADER_PX, **place)
        for r, cell in enumerate(column.cells):
            _draw_cell(sheet, cell, left=left, top=top + r * step, tile_px=tile_px)
        for r, notes in enumerate(column.notes):
            _draw_notes(draw, notes, top=top + r * step + tile_px + 4, **place)
    return sheet


def _lefts(columns: Sequence[Column], tile_px: int) -> list[int]:
    """Return the left edges of the columns; a wider gap separates methods."""
    lefts: list[int] = []
    left, method = _MARGIN_PX + _LABEL_PX, None
    for column in columns:
        left += _METHOD_GAP_PX if method not in (None, column.heading[0]) else 0
        lefts.append(left)
        left, method = left + tile_px + _GAP_PX, column.heading[0]
    return lefts


def column_heading(arm: Arm, kept: str = "") -> tuple[str, str]:
    """Return the method's plain name, and below it t0, scales that are not 1 and the share kept."""
    return heading_of(arm)[0], ", ".join(text for text in (heading_of(arm)[1], kept) if text)


def heading_of(arm: Arm) -> tuple[str, str]:
    """Return the method's plain name, and below it t0 and the scales that are not 1."""
    settings = [] if arm.t0 is None else [f"t0 {arm.t0:g}"]
    if arm.plugin_scale not in (None, 1.0):
        settings.append(f"plugin {arm.plugin_scale:g}")
    if arm.adapter_scale not in (None, 1.0):
        settings.append(f"adapter {arm.adapter_scale:g}")
    return method_name(arm.method, arm.adapter), ", ".join(settings)


def _arm_of(subject: ImageToScore) -> Arm:
    i = subject.image
    return Arm(i.plugin, i.kind, i.method, i.t0, i.plugin_scale, i.adapter_scale, i.adapter)


def _has_condition(subjects: Sequence[ImageToScore]) -> bool:
    return any(subject.image.load_condition for subject in subjects)


def condition_column(subjects: Sequence[ImageToScore], cases: Sequence[str]) -> Column:
    """Return the condition images of some cases as a column."""
    loaders = {s.image.case_id: s.image.load_condition for s in subjects}
    cells = []
    for case_id in cases:
        load = loaders[case_id]
        cells.append(Image.fromarray(load()) if load else "none")
    return Column(("Condition", ""), tuple(cells))


def picture_of(subject: ImageToScore | None) -> Image.Image | str:
    """Return the picture of a cell, or why it is missing."""
    if subject is None:
        return "not planned"
    if subject.missing:
        return subject.missing
    return Image.fromarray(subject.image.load_picture())


def _scores(store: RunStore, metrics: set[str]) -> dict[tuple[str, str], dict[str, float]]:
    """Return (plugin, metric) -> trial -> score of its image."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for metric in sorted(metrics):
        for row in records(store.scores_of(metric)):
            if row["level"] == "image" and row["value"] is not None:
                found.setdefault((row["plugin"], metric), {})[row["trial_id"]] = row["value"]
    return found


def _lines(results: PluginResults, *, n_rows: int, seed: int, kind: str) -> list[str]:
    """Return the answer, what the numbers are, and which prompts are shown."""
    summary = results.answer.summary if results.answer else ""
    lines = [f"{summary[0].upper()}{summary[1:]}."] if summary else []
    if results.metric and results.scores:
        name = metric_name(results.metric)
        known = "" if name == results.metric else f" ({results.metric})"
        lines.append(
            f'Below each picture: {function_word(kind)}, as "{name}"{known}. Above each column: '
            "what is kept over all prompts."
        )
    prompts = "prompt" if n_rows == 1 else f"{n_rows} prompts"
    return [*lines, f"The first {prompts} of the run at seed {seed}, not selected."]


def _title_lines(title: Title | None, *, width_px: int) -> list[tuple[str, Color]]:
    """Return the lines that fit the width; those of the first text are in ink."""
    if title is None:
        return []
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    font = ImageFont.load_default(_FONT_PX)
    return [
        (part, _FAINT if i else _INK)
        for i, line in enumerate(title.lines)
        for part in _wrapped(draw, line, font=font, width_px=width_px, max_lines=3)
    ]


def _draw_title(
    draw: ImageDraw.ImageDraw, title: Title, lines: Sequence[tuple[str, Color]]
) -> None:
    font, small = (ImageFont.load_default(px) for px in (_TITLE_FONT_PX, _FONT_PX))
    name, left, base = one_line(title.name, longest=60), _MARGIN_PX, _MARGIN_PX + 34
    draw.text((left, base), name, fill=_INK, font=font, anchor="ls")
    left += round(draw.textlength(name, font=font)) + 16
    if title.kind:
        draw.text((left, base), title.kind, fill=_FAINT, font=small, anchor="ls")
        left += round(draw.textlength(title.kind, font=small)) + 20
    if title.word:
        _draw_word(draw, title.word, left=left, base=base, font_px=_FONT_PX + 3)
    for i, (line, color) in enumerate(lines):
        at = (_MARGIN_PX, base + 22 + i * _TITLE_LINE_PX)
        draw.text(at, line, fill=color, font=small)


def _draw_word(
    draw: ImageDraw.ImageDraw, word: PluginWord, *, left: int, base: int, font_px: int
) -> None:
    """Draw a verdict as white text on its color."""
    font = ImageFont.load_default(font_px)
    width = round(draw.textlength(word, font=font))
    box = (left, base - font_px, left + width + 20, base + 9)
    draw.rounded_rectangle(box, radius=8, fill=COLORS[word])
    draw.text((left + 10, base), word, fill=_PAPER, font=font, anchor="ls")


def _draw_notes(
    draw: ImageDraw.ImageDraw, notes: Sequence[str], *, center: int, top: int, width_px: int
) -> None:
    for i, note in enumerate(notes):
        at, color = (center, top + i * _NOTE_PX), _FAINT if i else _INK
        _draw_fitted(draw, note, at=at, color=color, font_px=_NOTE_FONT_PX, width_px=width_px)


def _draw_cell(
    sheet: Image.Image, cell: Image.Image | str, *, left: int, top: int, tile_px: int
) -> None:
    if isinstance(cell, str):
        draw = ImageDraw.Draw(sheet)
        box = (left, top, left + tile_px - 1, top + tile_px - 1)
        draw.rectangle(box, fill=_EMPTY)
        font = ImageFont.load_default(_FONT_PX - 4)
        lines = _wrapped(draw, cell, font=font, width_px=tile_px - 16, max_lines=tile_px // 24)
        draw.multiline_text((left + 8, top + 8), "\n".join(lines), fill=_FAINT, font=font)
        return
    scale = tile_px / max(cell.size)
    size = (max(1, round(cell.width * scale)), max(1, round(cell.height * scale)))
    tile = cell.resize(size, Image.Resampling.LANCZOS)
    sheet.paste(tile, (left + (tile_px - size[0]) // 2, top + (tile_px - size[1]) // 2))


def _draw_heading(
    draw: ImageDraw.ImageDraw, heading: tuple[str, str], *, center: int, top: int, width_px: int
) -> None:
    for line, (text, color) in enumerate(zip(heading, (_INK, _FAINT), strict=True)):
        at = (center, top + line * 32)
        _draw_fitted(
            draw, text, at=at, color=color, font_px=_HEADER_FONT_PX - 4 * line, width_px=width_px
        )


def _draw_fitted(
    draw: ImageDraw.ImageDraw,
    text: str,
    *,
    at: tuple[int, int],
    color: Color,
    font_px: int,
    width_px: int,
) -> None:
    """Draw a centered line, smaller where it is too wide, and cut where that is not enough."""
    line = one_line(text)
    while font_px > _LEAST_FONT_PX and _is_wide(draw, line, font_px, width_px):
        font_px -= 1
    font = ImageFont.load_default(font_px)
    line = _cut(draw, line, font=font, width_px=width_px)
    draw.text(at, line, fill=color, font=font, anchor="ma")


def _is_wide(draw: ImageDraw.ImageDraw, text: str, font_px: int, width_px: int) -> bool:
    return draw.textlength(text, font=ImageFont.load_default(font_px)) > width_px


def _draw_label(draw: ImageDraw.ImageDraw, label: str | Title, *, top: int, height_px: int) -> None:
    """Draw a prompt; or a plugin with its verdict and lines, the first of them in ink."""
    font = ImageFont.load_default(_FONT_PX)
    if isinstance(label, Title):
        _draw_plugin_label(draw, label, top=top)
        return
    lines = _wrapped(draw, label, font=font, width_px=_LABEL_PX - 20, max_lines=6)
    middle = (_MARGIN_PX, top + height_px // 2)
    draw.multiline_text(middle, "\n".join(lines), fill=_INK, font=font, anchor="lm", spacing=6)


def _draw_plugin_label(draw: ImageDraw.ImageDraw, label: Title, *, top: int) -> None:
    large, font, small = (
        ImageFont.load_default(px) for px in (_HEADER_FONT_PX, _FONT_PX, _NOTE_FONT_PX)
    )
    name = _cut(draw, one_line(label.name), font=large, width_px=_LABEL_PX - 20)
    draw.text((_MARGIN_PX, top), name, fill=_INK, font=large)
    left, base = _MARGIN_PX, top + 56
    if label.word:
        _draw_word(draw, label.word, left=left, base=base, font_px=_NOTE_FONT_PX)
        left += round(draw.textlength(label.word, font=small)) + 30
    draw.text((left, base), one_line(label.kind), fill=_FAINT, font=small, anchor="ls")
    at = base + 18
    for i, line in enumerate(label.lines):
        lines = _wrapped(draw, line, font=font, width_px=_LABEL_PX - 20, max_lines=4)
        color = _FAINT if i else _INK
        draw.multiline_text((_MARGIN_PX, at), "\n".join(lines), fill=color, font=font, spacing=4)
        at += 27 * len(lines) + 4


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
