"""Draw the standard plots of a run with matplotlib, at any width and with nothing cut.

Methods differ in marker and dash, not in color alone; labels are words, not ids.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.analysis.glossary import function_word, method_name
from bench.analysis.words import row_line, share
from bench.report.styles import GRAY, line_styles
from bench.store import Row, grouped
from metrics.stats import pareto_front
from plugins_manifest.outputs import one_line
from runners.base import Marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"  # becomes the page's text color in an embedded SVG
_DASHES: tuple[Any, ...] = (
    *("-", (0, (5, 2)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 3))),
    (0, (1, 4)),
)
# marker of a `MethodStyle` -> matplotlib's marker, and the dash of lines with it
_MARKS: dict[Marker, tuple[str, Any]] = {
    "circle": ("o", _DASHES[0]),
    "square": ("s", _DASHES[1]),
    "triangle-up": ("^", _DASHES[3]),
    "diamond": ("D", _DASHES[2]),
    "cross": ("P", _DASHES[4]),
    "triangle-down": ("v", _DASHES[5]),
    "triangle-left": ("<", _DASHES[1]),
    "triangle-right": (">", _DASHES[3]),
    "star": ("*", _DASHES[4]),
    "x": ("X", _DASHES[0]),
    "pentagon": ("p", _DASHES[1]),
    "hexagon": ("h", _DASHES[2]),
    "octagon": ("8", _DASHES[3]),
    "thin-diamond": ("d", _DASHES[4]),
}
_T0 = "t0: how much the new model redraws"
_MAX_TICKS = 12
_GLYPH = 0.56  # mean width of a character, in font sizes


@dataclass(frozen=True)
class Look:
    """Sizes of a plot; `settings` are matplotlib's."""

    width_inches: float
    height_inches: float
    font_points: float
    with_title: bool
    settings: Mapping[str, Any] = field(default_factory=dict)

    def all_settings(self, name: str) -> dict[str, Any]:
        """Return matplotlib's settings for one plot; `name` makes the ids of its SVG."""
        small = self.font_points * 0.9
        return {
            **_SETTINGS,
            "font.size": self.font_points,
            "axes.labelsize": self.font_points,
            "xtick.labelsize": small,
            "ytick.labelsize": small,
            "legend.fontsize": small,
            "lines.linewidth": 0.14 * self.font_points,
            "lines.markersize": 0.5 * self.font_points,
            "axes.linewidth": 0.08 * self.font_points,
            "svg.hashsalt": name,
            **self.settings,
        }

    def n_characters(self, inches: float) -> int:
        """Return how many characters of a label fit into a length."""
        return max(8, int(inches * 72 / (_GLYPH * self.font_points)))


_SETTINGS: Mapping[str, Any] = {
    "font.family": "sans-serif",
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def styles(lines: Iterable[str]) -> dict[str, tuple[str, str, Any]]:
    """Return color, marker and dash of each method or line, in the order of legends."""
    found = line_styles(lines)
    return {name: (style.color, *_MARKS[style.marker]) for name, style in found.items()}


def _in_lines(rows: Iterable[Row]) -> list[Row]:
    """Return rows with their lines as methods: of several adapters each is drawn on its own."""
    return [row | {"method": row_line(row)} for row in rows]


def kept_words(row: Row) -> str:
    """Return what a method keeps at its setting to use, or that none is shown to keep anything."""
    return share(row) or row["choice_reason"] or row["reason"] or "not measured"


def function_label(row: Row) -> str:
    """Return what a plugin's function counts, with its metric and direction."""
    metric, better = one_line(row["function_metric"]), row["function_better"]
    return f"{function_word(row['kind']).capitalize()} ({metric}, {better} is better)"


def draw_curves(figure: Figure, look: Look, *, rows: Sequence[Row], name: str, label: str) -> None:
    """Draw a quantity over t0; methods without t0 are horizontal lines."""
    axes, rows = figure.add_subplot(), _in_lines(rows)
    looks = styles(row["method"] for row in rows)
    for (method, *scales), group in grouped(
        rows, "method", "plugin_scale", "adapter_scale"
    ).items():
        color, marker, dash = looks[method]
        there = sorted((r for r in group if r[name] is not None), key=lambda r: r["t0"] or 0)
        if not there:
            continue
        title = _titled(method, scales)
        if there[0]["t0"] is None:
            axes.axhline(there[0][name], color=color, linestyle=dash, label=title)
            continue
        t0s = [row["t0"] for row in there]
        axes.plot(t0s, [r[name] for r in there], color=color, marker=marker, ls=dash, label=title)
        banded = [row for row in there if row[f"{name}_low"] is not None]
        if len(banded) == 1:  # a band needs two
            at, value = [banded[0]["t0"]], [banded[0][name]]
            axes.errorbar(at, value, yerr=_whiskers(banded, name), color=color)
        low, high = ([row[f"{name}_{end}"] for row in banded] for end in ("low", "high"))
        axes.fill_between([r["t0"] for r in banded], low, high, color=color, alpha=0.15, lw=0)
    _limit(axes, _reach(rows, name, room=None))
    t0s = sorted({row["t0"] for row in rows if row["t0"] is not None})
    if len(t0s) <= _MAX_TICKS:
        axes.set_xticks(t0s, [f"{t0:g}" for t0 in t0s])
    axes.set_xlabel(_T0)
    axes.set_ylabel(wrapped(label, look.n_characters(look.height_inches * 0.7)))
    _finish(figure, axes, look)


def draw_plane(figure: Figure, look: Look, *, rows: Sequence[Row]) -> None:
    """Draw the share kept against the distance q, with intervals and the Pareto front."""
    axes, rows = figure.add_subplot(), _in_lines(rows)
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
            elinewidth=0.07 * look.font_points,
            alpha=0.9,
            label=_titled(method, ()),
        )
    judged = [row for row in there if row["verdict"] is not None]
    front = pareto_front([(row["retention"], -row["quality"]) for row in judged])
    if len(front) > 1:
        xs, ys = [x for x, _ in front], [-y for _, y in front]
        axes.step(xs, ys, where="pre", color=INK, lw=0.1 * look.font_points, ls=":", label="best")
    _limit(axes, _reach(there, "quality", room=None))
    _limit(axes, [1.0, *_reach(there, "retention")], axis="x")
    _name_points(axes, judged, look)
    axes.invert_yaxis()  # up is better
    axes.xaxis.set_major_formatter(_percent)
    axes.set_xlabel("Share of the effect kept")
    label = "Distance in look (q; up is better)"
    axes.set_ylabel(wrapped(label, look.n_characters(look.height_inches * 0.7)))
    _finish(figure, axes, look)


def share_lines(rows: Sequence[Row], look: Look) -> dict[str, float]:
    """Return plugin -> the lines of a forest plot that its methods, or its wrapped name, take."""
    width = look.n_characters(look.width_inches * 0.3)
    return {
        plugin: max(len(group), 0.65 * len(wrapped(one_line(plugin), width).splitlines()))
        for (plugin,), group in grouped(rows, "plugin").items()
    }


def draw_shares(
    figure: Figure, look: Look, *, rows: Sequence[Row], natives: Mapping[str, Row]
) -> None:
    """Draw the share kept as a forest plot: a group for each plugin, a line for each method.

    `natives` (plugin -> row) are marks of what a native plugin reaches.
    """
    axes, place, rows = figure.add_subplot(), 0.0, _in_lines(rows)
    looks = styles(row["method"] for row in rows)
    named: set[str] = set()
    ticks, lines = [], share_lines(rows, look)
    for (plugin,), group in grouped(rows, "plugin").items():
        begin, place = place, place + (lines[plugin] - len(group)) / 2
        ticks.append((place + (len(group) - 1) / 2, plugin))
        native = natives.get(plugin)
        if native is not None:
            label = None if "oracle" in named else method_name("oracle")
            named.add("oracle")
            ends = [place - 0.4, place + len(group) - 0.6]
            axes.plot([native["retention"]] * 2, ends, color=GRAY, ls=":", label=label)
        for row in group:
            method = row["method"]
            color, marker, _ = looks[method]
            if row["retention"] is None:
                text = one_line(f"{method_name(method)}: {kept_words(row)}")
                room = look.n_characters(look.width_inches * 0.55)
                text = textwrap.shorten(text, room, placeholder=" ...")
                axes.text(0.02, place, text, size=0.8 * look.font_points, va="center")
            else:
                axes.errorbar(
                    [row["retention"]],
                    [place],
                    xerr=_whiskers([row], "retention"),
                    fmt=marker,
                    color=color,
                    elinewidth=0.14 * look.font_points,
                    capsize=0.25 * look.font_points,
                    label=None if method in named else _titled(method, ()),
                )
                named.add(method)
            place += 1
        place = begin + lines[plugin] + 0.7
    for at in (0, 1):
        axes.axvline(at, color=INK, lw=0.08 * look.font_points, zorder=0)
    width = look.n_characters(look.width_inches * 0.3)
    axes.set_yticks([at for at, _ in ticks], [wrapped(one_line(name), width) for _, name in ticks])
    _limit(axes, [1.0, *_reach(rows, "retention"), *_reach(list(natives.values()), "retention")])
    axes.set_xlim(*axes.get_ylim())
    axes.set_ylim(place - 0.7, -1.0)  # the first plugin is at the top
    axes.xaxis.set_major_formatter(_percent)
    label = "Share of the effect kept (0 %: without the plugin, 100 %: at home)"
    axes.set_xlabel(wrapped(label, look.n_characters(look.width_inches * 0.68)))
    _finish(figure, axes, look)


def _percent(value: float, _: object) -> str:
    return f"{round(100 * value)} %"


def wrapped(text: str, width: int) -> str:
    """Wrap a label, also inside of long names without spaces."""
    return "\n".join(textwrap.wrap(text, max(width, 12), break_on_hyphens=True)) or text


def _name_points(axes: Axes, rows: Sequence[Row], look: Look) -> None:
    """Write the t0 beside each point, in turn on its sides where the last one is near."""
    x_span, y_span = (abs(high - low) for low, high in (axes.get_xlim(), axes.get_ylim()))
    sides = ((4, 4, "left"), (-4, 4, "right"), (4, -4, "left"), (-4, -4, "right"))
    last, n_near = None, 0
    for row in sorted(rows, key=lambda row: row["retention"]):
        place = row["retention"], row["quality"]
        is_near = (
            last is not None
            and place[0] - last[0] < 0.08 * x_span
            and abs(place[1] - last[1]) < 0.12 * y_span
        )
        n_near = n_near + 1 if is_near else 0
        x, y, side = sides[n_near % len(sides)]
        axes.annotate(
            "" if row["t0"] is None else f"{row['t0']:g}",
            place,
            (x, y),
            textcoords="offset points",
            size=0.8 * look.font_points,
            ha=side,
            va="bottom" if y > 0 else "top",
        )
        last = place


def _finish(figure: Figure, axes: Axes, look: Look) -> None:
    axes.grid(True, color=GRAY, alpha=0.25, lw=0.07 * look.font_points)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return
    labels = [wrapped(label, look.n_characters(look.width_inches * 0.8)) for label in labels]
    longest = max(len(line) for label in labels for line in label.splitlines())
    room = look.n_characters(look.width_inches * 0.95)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(1, min(len(labels), room // (longest + 6))),
        borderpad=0.2,
        columnspacing=1.2,
        handletextpad=0.5,
        handlelength=2.2,
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
    words = zip(("plugin", "adapter"), scales, strict=False)
    marks = [f"{word} {scale:g}" for word, scale in words if scale not in (None, 1.0)]
    return one_line(", ".join([method_name(method), *marks]))
