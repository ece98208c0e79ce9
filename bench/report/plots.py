"""The plots of a run: PNG and SVG files of its report, and SVG for a page.

matplotlib is imported when a plot is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from bench.analysis import Answer, answers
from bench.analysis.glossary import function_word, method_name
from bench.analysis.words import is_judged, row_line
from bench.report.drawing import (
    INK,
    Look,
    draw_curves,
    draw_plane,
    draw_shares,
    function_label,
    kept_words,
    share_lines,
    styles,
    wrapped,
)
from bench.store import Row, RunStore, grouped
from plugins_manifest.outputs import file_name, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Plot", "Sketch", "draw", "page_svg", "sketches", "styles", "write_plots"]

PNG_DPI = 110
MAX_SHARES = 40  # plugins in one forest plot: more are not readable, and too high for a PNG file
ON_A_PAGE = Look(10.4, 3.7, 10, with_title=True, settings={"svg.fonttype": "none"})


@dataclass(frozen=True)
class Plot:
    """A drawn plot: its file name without ending, its description, and its SVG for a page."""

    name: str
    alt: str
    svg: str


class Draw(Protocol):
    """Draws into an empty figure."""

    def __call__(self, figure: Figure, look: Look, /) -> None: ...


@dataclass(frozen=True)
class Sketch:
    """A plot that can be drawn in any look; `shares` of a forest plot decide its height."""

    name: str
    alt: str
    title: str
    draw: Draw
    shares: Sequence[Row] | None = None

    def look(self, look: Look) -> Look:
        """Return the look with this plot's height."""
        if self.shares is None:
            return look
        lines = share_lines(self.shares, look)
        n_lines = sum(lines.values()) + 0.7 * len(lines)
        methods = {row_line(row) for row in self.shares}
        names = "  ".join(f"      {method_name(method)}" for method in methods)
        n_lines += 0.7 * len(names) // look.n_characters(look.width_inches)  # of the legend
        inches = look.font_points / 72 * (7 + 1.9 * n_lines)
        return replace(look, height_inches=inches + 0.3)


def write_plots(rows: Sequence[Row], store: RunStore, *, png: bool = True) -> dict[str, list[Plot]]:
    """Draw rows of `schema.COMPATIBILITY` into the run; return plugin ("" for all) -> its plots.

    SVG files, and PNG files too if `png`.
    """
    found: dict[str, list[Plot]] = {}
    names = set()
    for plugin, sketch in sketches(rows):
        found.setdefault(plugin, []).append(_write(sketch, store, png=png))
        names.add(sketch.name)
    _remove_others(store, names)
    return found


def sketches(rows: Sequence[Row]) -> list[tuple[str, Sketch]]:
    """Return (plugin, or "" for all; plot) of rows of `schema.COMPATIBILITY`."""
    if not is_judged(rows):
        return []
    settings = [row for row in rows if row["level"] == "setting"]
    found = [("", sketch) for sketch in _overview(rows, answers(rows))]
    for (plugin,), group in grouped(settings, "plugin").items():
        found += [(plugin, sketch) for sketch in _of_plugin(plugin, group)]
    return found


def _remove_others(store: RunStore, drawn: Collection[str]) -> None:
    """Delete plots of earlier tables that today's do not give: they would contradict the report."""
    for pattern in ("scores.*", "t0-*.*", "plane-*.*", "retention.*"):
        for path in store.plots_dir.glob(pattern):
            if path.stem not in drawn and path.suffix in (".png", ".svg"):
                store.remove_file(path)


def _overview(rows: Sequence[Row], found: Sequence[Answer]) -> Iterator[Sketch]:
    """Yield the share kept: the plugins worst first, methods that keep nothing too."""
    names = [answer.plugin for answer in found[:MAX_SHARES]]
    methods = [r for n in names for r in rows if r["level"] == "method" and r["plugin"] == n]
    if all(row["retention"] is None for row in methods):
        return
    natives = {
        row["plugin"]: row
        for row in rows
        if row["plugin"] in names
        and (row["level"], row["method"]) == ("setting", "oracle")
        and row["retention"] is not None
    }
    title = "Share of each plugin's effect that is kept"
    if len(found) > len(names):
        title += f": the worst {len(names)} of {len(found):,} plugins"
    alt = (
        f"{title}, by each method at its setting to use, with 95 % intervals: 0 as without the "
        "plugin, 100 % as on the base model. "
    ) + "; ".join(f"{r['plugin']} {method_name(r['method'])} {kept_words(r)}" for r in methods)
    draw = partial(draw_shares, rows=methods, natives=natives)
    yield Sketch("retention", alt, title, draw, methods)


def _of_plugin(plugin: str, rows: Sequence[Row]) -> Iterator[Sketch]:
    name, title = file_name(plugin), one_line(plugin)
    if any(row["function"] is not None for row in rows):
        word, label = function_word(rows[0]["kind"]), function_label(rows[0])
        alt = f"{plugin}: {label} over t0 by method, with 95 % bands; references as lines"
        draw = partial(draw_curves, rows=rows, name="function", label=label)
        yield Sketch(f"t0-function-{name}", alt, f"{title}: {word} over t0", draw)
    if any(row["quality"] is not None for row in rows):
        metric = next(row["quality_metric"] for row in rows if row["quality_metric"])
        label = f"Distance in look (q: {one_line(metric)}, lower is better)"
        alt = f"{plugin}: {label} over t0 by method, with 95 % bands"
        draw = partial(draw_curves, rows=rows, name="quality", label=label)
        yield Sketch(f"t0-quality-{name}", alt, f"{title}: distance in look over t0", draw)
    told = [row for row in rows if row["quality_word"] not in (None, "cannot be told")]
    if any(row["retention"] is not None for row in told):
        alt = f"{plugin}: share kept against the distance in look (q) of every setting"
        draw = partial(draw_plane, rows=rows)
        yield Sketch(f"plane-{name}", alt, f"{title}: look against share kept", draw)


def page_svg(svg: str) -> str:
    """Return an SVG file's text as part of a page: no prologue or names; the page's text color."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body)
    used = set(re.findall(r"#([\w-]+)", body))  # other names would be doubled on a page
    body = re.sub(r'\sid="([^"]*)"', lambda m: m[0] if m[1] in used else "", body)
    head, rest = body.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f"{head}>{rest}".replace(INK, "currentColor")


def draw(sketch: Sketch, look: Look, formats: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
    """Return a plot's file in each format; `formats` are options of matplotlib's `savefig`.

    The same plot gives the same bytes.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    look = sketch.look(look)
    settings: Any = look.all_settings(sketch.name)
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(look.width_inches, look.height_inches), layout="constrained")
        FigureCanvasAgg(figure)
        if look.with_title:
            title = wrapped(sketch.title, look.n_characters(0.85 * look.width_inches))
            figure.suptitle(title, x=0.01, ha="left", weight="bold")
        sketch.draw(figure, look)
        files = {}
        for name, options in formats.items():
            stream = io.BytesIO()
            figure.savefig(stream, format=name, **options)
            files[name] = stream.getvalue()
            figure.set_layout_engine("none")  # the places are found: those of the first format
    return files


_PNG = {"dpi": PNG_DPI, "facecolor": "white", "metadata": {"Software": None}}
_SVG = {"transparent": True, "metadata": {"Date": None}}


def _write(sketch: Sketch, store: RunStore, *, png: bool) -> Plot:
    files = draw(sketch, ON_A_PAGE, {"svg": _SVG, **({"png": _PNG} if png else {})})
    for ending, content in files.items():
        store.write_file(store.plots_dir / f"{sketch.name}.{ending}", content)
    return Plot(sketch.name, sketch.alt, page_svg(files["svg"].decode()))
