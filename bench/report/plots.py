"""Draw the plots of a report: PNG and SVG files, and SVG for a page.

matplotlib is imported when a plot is drawn. Methods differ in marker and dash, not in color alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.analysis import Answer, answers
from bench.analysis.words import is_judged, share
from bench.report.styles import GRAY, method_order, method_style
from bench.store import Row, RunStore, grouped
from metrics.stats import pareto_front
from plugins_manifest.outputs import file_name, one_line
from runners.base import Marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PNG_DPI = 110
_SIZE_INCHES = (5.2, 3.5)
_INK = "#010203"  # becomes the page's text color in an embedded SVG
_GRID = GRAY
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 3)))
# marker of a `MethodStyle` -> matplotlib's marker, and the dash of lines with it
_MARKS: dict[Marker, tuple[str, Any]] = {
    "circle": ("o", _DASHES[0]),
    "square": ("s", _DASHES[1]),
    "triangle-up": ("^", _DASHES[3]),
    "diamond": ("D", _DASHES[2]),
    "cross": ("P", _DASHES[4]),
    "triangle-down": ("v", _DASHES[2]),
    "triangle-left": ("<", _DASHES[1]),
    "triangle-right": (">", _DASHES[3]),
    "star": ("*", _DASHES[4]),
    "x": ("X", _DASHES[0]),
    "pentagon": ("p", _DASHES[1]),
    "hexagon": ("h", _DASHES[2]),
}
_SETTINGS = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


@dataclass(frozen=True)
class Plot:
    """A drawn plot: its file name without ending, its description, and its SVG for a page."""

    name: str
    alt: str
    svg: str


@dataclass(frozen=True)
class _Sketch:
    name: str
    alt: str
    title: str
    draw: Callable[[Figure], None]
    height_inches: float = _SIZE_INCHES[1]


def write_plots(rows: Sequence[Row], store: RunStore, *, png: bool = True) -> dict[str, list[Plot]]:
    """Draw rows of `schema.COMPATIBILITY` into the run; return plugin ("" for all) -> its plots.

    SVG files, and PNG files too if `png`.
    """
    found: dict[str, list[Plot]] = {}
    if not is_judged(rows):
        return found
    settings = [row for row in rows if row["level"] == "setting"]
    methods = [row for row in rows if row["level"] == "method"]
    sketches = [("", sketch) for sketch in _overview(methods, answers(rows))]
    for (plugin,), group in grouped(settings, "plugin").items():
        sketches += [(plugin, sketch) for sketch in _of_plugin(plugin, group)]
    for plugin, sketch in sketches:
        found.setdefault(plugin, []).append(_write(sketch, store, png=png))
    _remove_others(store, {sketch.name for _, sketch in sketches})
    return found


def _remove_others(store: RunStore, drawn: Collection[str]) -> None:
    """Delete plots of earlier tables that today's do not give: they would contradict the report."""
    for pattern in ("scores.*", "t0-*.*", "plane-*.*", "retention.*"):
        for path in store.plots_dir.glob(pattern):
            if path.stem not in drawn and path.suffix in (".png", ".svg"):
                store.remove_file(path)


def _overview(methods: Sequence[Row], found: Sequence[Answer]) -> Iterator[_Sketch]:
    """Yield bars of the share kept: the plugins worst first, methods that keep nothing too."""
    rows = [row for a in found for row in methods if row["plugin"] == a.plugin]
    if any(row["retention"] is not None for row in rows):
        alt = (
            "Share of each plugin's effect that each method keeps at its setting to use, with 95 % "
            "intervals: 0 as without the plugin, 1 as on the base model. "
        ) + "; ".join(f"{row['plugin']} {row['method']} {_kept(row)}" for row in rows)
        height = 1.15 + 0.26 * len(rows) + 0.2 * len({row["plugin"] for row in rows})
        title = "share of the plugin's effect kept"
        yield _Sketch("retention", alt, title, partial(_bars, rows=rows), height)


def _kept(row: Row) -> str:
    """Return what a method keeps at its setting to use, or that none is shown to keep anything."""
    return share(row) or row["choice_reason"] or row["reason"] or "not measured"


def _of_plugin(plugin: str, rows: Sequence[Row]) -> Iterator[_Sketch]:
    name, title = file_name(plugin), one_line(plugin)
    if any(row["function"] is not None for row in rows):
        metric, better = rows[0]["function_metric"], rows[0]["function_better"]
        label = f"{one_line(metric)} ({better} is better)"
        alt = f"{plugin}: {metric} over t0 by method, with 95 % bands; base and floor as lines"
        draw = partial(_curves, rows=rows, name="function", label=label)
        yield _Sketch(f"t0-function-{name}", alt, title, draw)
    if any(row["quality"] is not None for row in rows):
        metric = next(row["quality_metric"] for row in rows if row["quality_metric"])
        alt = f"{plugin}: distance q ({metric}) over t0 by method, with 95 % bands; lower is better"
        label = f"q: {one_line(metric)} (lower is better)"
        draw = partial(_curves, rows=rows, name="quality", label=label)
        yield _Sketch(f"t0-quality-{name}", alt, title, draw)
    if any(row["quality_word"] is not None and row["retention"] is not None for row in rows):
        alt = f"{plugin}: share kept against the distance q of every setting, with the best of both"
        yield _Sketch(f"plane-{name}", alt, title, partial(_plane, rows=rows))


def _curves(figure: Figure, rows: Sequence[Row], name: str, label: str) -> None:
    """Draw a quantity over t0; methods without t0 are horizontal lines."""
    axes = figure.add_subplot()
    looks = styles(row["method"] for row in rows)
    ranges = _reach(rows, name, room=None)
    for (method, *scales), group in grouped(
        rows, "method", "plugin_scale", "adapter_scale"
    ).items():
        color, marker, dash = looks[method]
        there = sorted((r for r in group if r[name] is not None), key=lambda r: r["t0"] or 0)
        if not there:
            continue
        title = _titled(method, scales)
        if there[0]["t0"] is None:
            axes.axhline(there[0][name], color=color, linestyle=dash, linewidth=1.3, label=title)
            continue
        t0s = [row["t0"] for row in there]
        axes.plot(t0s, [r[name] for r in there], color=color, marker=marker, ls=dash, label=title)
        banded = [row for row in there if row[f"{name}_low"] is not None]
        if len(banded) == 1:  # a band needs two
            at, value = [banded[0]["t0"]], [banded[0][name]]
            axes.errorbar(at, value, yerr=_whiskers(banded, name), color=color)
        low, high = ([row[f"{name}_{end}"] for row in banded] for end in ("low", "high"))
        axes.fill_between([r["t0"] for r in banded], low, high, color=color, alpha=0.18, lw=0)
    _limit(axes, ranges)
    axes.set(xlabel="t0", ylabel=label)
    _finish(axes)


def _plane(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw the share kept against the distance q, with intervals and the Pareto front."""
    axes = figure.add_subplot()
    there = [row for row in rows if row["retention"] is not None and row["quality"] is not None]
    looks = styles(row["method"] for row in there)
    for (method,), group in grouped(there, "method").items():
        color, marker, _ = looks[method]
        axes.errorbar(
            [row["retention"] for row in group],
            [row["quality"] for row in group],
            xerr=_whiskers(group, "retention"),
            yerr=_whiskers(group, "quality"),
            fmt=marker,
            color=color,
            elinewidth=0.7,
            alpha=0.9,
            label=one_line(method),
        )
        for row in group:
            if row["verdict"] is not None:
                place, text = (row["retention"], row["quality"]), _point_text(row)
                axes.annotate(text, place, (4, 4), textcoords="offset points", size=7)
    judged = [row for row in there if row["verdict"] is not None]
    front = pareto_front([(row["retention"], -row["quality"]) for row in judged])
    if len(front) > 1:
        xs, ys = [x for x, _ in front], [-y for _, y in front]
        axes.step(xs, ys, where="pre", color=_INK, lw=1, ls=":", label="best of both")
    _limit(axes, _reach(there, "quality", room=None))
    _limit(axes, [1.0, *_reach(there, "retention")], axis="x")
    axes.invert_yaxis()  # up is better
    axes.set(xlabel="share kept", ylabel="distance q (up: lower, better)")
    _finish(axes)


def _point_text(row: Row) -> str:
    """Return a point's t0, and its verdict where there is one."""
    words = [f"{row['t0']:g}" if row["t0"] is not None else "", row["verdict"]]
    return " ".join(word for word in words if word not in ("", "open"))


def _bars(figure: Figure, rows: Sequence[Row]) -> None:
    """Draw horizontal bars of the share kept: a group for each plugin, a bar for each method."""
    longest = max(len(row["plugin"]) for row in rows)
    figure.subplots_adjust(left=min(0.5, 0.04 + 0.0145 * longest))
    axes, place = figure.add_subplot(), 0.0
    looks = styles(row["method"] for row in rows)
    ticks, named = [], set()
    hatches = dict(zip(looks, ("", "///", "...", "xx", "\\\\\\", "++"), strict=False))
    for (plugin,), group in grouped(rows, "plugin").items():
        ticks.append((place + (len(group) - 1) / 2, plugin))
        for row in group:
            method = row["method"]
            if row["retention"] is None:
                text = one_line(f"{method}: {_kept(row)}", longest=60)
                axes.text(0.01, place, text, size=7, va="center")
            else:
                axes.barh(
                    place,
                    row["retention"],
                    height=0.8,
                    color=looks[method][0],
                    hatch=hatches.get(method, ""),
                    edgecolor="white",
                    lw=0,
                    xerr=_whiskers([row], "retention"),
                    error_kw={"ecolor": _INK, "elinewidth": 1, "capsize": 2},
                    label=None if method in named else one_line(method),
                )
                named.add(method)
            place += 1
        place += 0.7
    for at in (0, 1):
        axes.axvline(at, color=_INK, lw=0.9, zorder=0)
    axes.set_yticks([at for at, _ in ticks], [one_line(plugin) for _, plugin in ticks])
    _limit(axes, [1.0, *_reach(rows, "retention")], axis="x")
    axes.set(xlabel="0: as without the plugin, 1: as on the base model")
    axes.invert_yaxis()
    _finish(axes)


def styles(methods: Iterable[str]) -> dict[str, tuple[str, str, Any]]:
    """Return color, marker and dash of each method, in the order of legends."""
    found = {name: method_style(name) for name in method_order(methods)}
    return {name: (style.color, *_MARKS[style.marker]) for name, style in found.items()}


def page_svg(svg: str) -> str:
    """Return an SVG file's text as part of a page: no prologue or names; the page's text color."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body)
    head, rest = body.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f"{head}>{rest}".replace(_INK, "currentColor")


def _write(sketch: _Sketch, store: RunStore, *, png: bool) -> Plot:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {**_SETTINGS, "svg.hashsalt": sketch.name}
    with matplotlib.rc_context(settings):
        height = sketch.height_inches
        figure = Figure(figsize=(_SIZE_INCHES[0], height))
        FigureCanvasAgg(figure)
        figure.text(0.02, 1 - 0.08 / height, sketch.title, weight="bold", va="top", size=10)
        figure.subplots_adjust(left=0.13, right=0.97, top=1 - 0.55 / height, bottom=0.48 / height)
        sketch.draw(figure)
        pixels, svg = io.BytesIO(), io.BytesIO()
        if png:
            figure.savefig(
                pixels, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None}
            )
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
    if png:
        store.write_file(store.plots_dir / f"{sketch.name}.png", pixels.getvalue())
    store.write_file(store.plots_dir / f"{sketch.name}.svg", svg.getvalue())
    return Plot(sketch.name, sketch.alt, page_svg(svg.getvalue().decode()))


def _finish(axes: Axes) -> None:
    axes.grid(True, color=_GRID, alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    n_columns = min(6, max(1, len(labels)))
    axes.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.99),
        ncols=n_columns,
        borderpad=0.2,
        columnspacing=0.9,
        handletextpad=0.4,
        handlelength=1.6,
    )


def _limit(axes: Axes, values: Sequence[float], *, axis: str = "y") -> None:
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.06 * ((high - low) or 1.0)
    (axes.set_ylim if axis == "y" else axes.set_xlim)(low - room, high + room)


def _reach(rows: Sequence[Row], name: str, *, room: float | None = 0.5) -> list[float]:
    """Return values and their intervals' ends: those of a ratio at most `room` beyond 0 and 1."""
    values = [row[name] for row in rows if row[name] is not None]
    found = [row[f"{name}_{end}"] for row in rows for end in ("low", "high")]
    ends = [end for end in found if end is not None]
    return values + (ends if room is None else [min(max(e, -room), 1 + room) for e in ends])


def _whiskers(rows: Sequence[Row], name: str) -> Any:
    """Return the distances to the ends of the intervals, [2, N]; 0 for a missing end."""
    ends: Mapping[str, list[float]] = {"low": [], "high": []}
    for row in rows:
        for end, sign in (("low", -1), ("high", 1)):
            edge = row[f"{name}_{end}"]
            ends[end].append(0.0 if edge is None else max(0.0, sign * (edge - row[name])))
    return [ends["low"], ends["high"]]


def _titled(method: str, scales: Sequence[float | None]) -> str:
    marks = [f"{m}{s:g}" for m, s in zip("pa", scales, strict=True) if s not in (None, 1.0)]
    return " ".join([one_line(method), *marks])
