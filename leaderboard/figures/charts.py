"""The charts of the pages: each takes plain rows and returns a Vega-Lite specification.

Each method has a color and a marker. Only points have tooltips. Specifications are plain
dictionaries: building them with a validating library takes 70 ms a chart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from bench.report.styles import GRAY, method_order, method_style
from bench.store import Row
from leaderboard.escape import one_line

Chart = dict[str, Any]
# markers that Vega has no shape for, as SVG paths in a square from -1 to 1
_PATHS = {
    "x": "M-.7-1L0-.3L.7-1L1-.7L.3 0L1 .7L.7 1L0 .3L-.7 1L-1 .7L-.3 0L-1-.7Z",
    "star": "M0-1L.22-.31L.95-.31L.36 .12L.59 .81L0 .38L-.59 .81L-.36 .12L-.95-.31L-.22-.31Z",
    "pentagon": "M0-1L.95-.31L.59 .81L-.59 .81L-.95-.31Z",
    "hexagon": "M0-1L.87-.5L.87 .5L0 1L-.87 .5L-.87-.5Z",
}
_LEGEND = {"orient": "top", "title": None, "columns": 3, "symbolOpacity": 1, "symbolSize": 90}
_RANGE = (-0.5, 1.5)  # visible range: the interval of a ratio may be huge
_POINT = {"type": "point", "filled": True, "size": 90, "opacity": 1}
_RULE = {"type": "rule", "strokeWidth": 2, "tooltip": None}


def score_chart(rows: Sequence[Row]) -> Chart:
    """Draw scores with intervals, a line for each plugin and method."""
    color, shape = _looks(row["method"] for row in rows)
    order = [one_line(name) for name in method_order(row["method"] for row in rows)]
    axis = {"title": None, "labelLimit": 260, "domain": False, "ticks": False}
    shared = {
        "y": {"field": "plugin", "type": "nominal", "axis": axis},
        "yOffset": {"field": "method", "type": "nominal", "sort": order},
        "color": color,
    }
    score = _number("score", title="compatibility score") | {"scale": {"domain": [0, 1]}}
    layers = [
        _layer(_RULE, shared, x=score | {"field": "score_low"}, x2={"field": "score_high"}),
        _layer(
            _POINT, shared, x=score, shape=shape, tooltip=_tooltip(method="method", text="score")
        ),
    ]
    names = ("plugin", "method", "score", "score_low", "score_high", "text")
    return _chart(rows, names, layers, height=_height(len(rows), 21))


def tradeoff_chart(rows: Sequence[Row], front: Sequence[Row]) -> Chart:
    """Draw retention against quality gain: points labeled with t0, whiskers, the Pareto front.

    A row's `image` is the address of an example for the tooltip.
    """
    color, shape = _looks(row["method"] for row in rows)
    x, y = (
        _number("retention", title="retention of the plugin"),
        _number("gain", title="quality gain"),
    )
    shared = {"color": color}
    whisker = {**_RULE, "strokeWidth": 1, "opacity": 0.35}
    line = {"type": "line", "strokeDash": [2, 2], "opacity": 0.6, "tooltip": None}
    label = {"type": "text", "dx": 9, "dy": -8, "align": "left", "fontSize": 11, "tooltip": None}
    tooltip = _tooltip(label="setting", retention_text="retention", gain_text="gain", image="image")
    layers = [
        _front_line(front, x=x, y=y),
        _layer(
            whisker, shared, x=x | {"field": "retention_low"}, x2={"field": "retention_high"}, y=y
        ),
        _layer(whisker, shared, y=y | {"field": "gain_low"}, y2={"field": "gain_high"}, x=x),
        _layer(line, shared, x=x, y=y, order=_number("t0")),
        _layer({**_POINT, "size": 110}, shared, x=x, y=y, shape=shape, tooltip=tooltip),
        _layer(label, shared, x=x, y=y, text={"field": "t0_text", "type": "nominal"}),
    ]
    names = ("method", "t0", "t0_text", "retention", "retention_low", "retention_high", "gain")
    names += ("gain_low", "gain_high", "label", "retention_text", "gain_text", "image")
    return _chart([_readable(row) for row in rows], names, layers, height=460)


def curve_chart(rows: Sequence[Row], *, title: str, recommended: Sequence[Row] = ()) -> Chart:
    """Draw a metric over t0 with bands; methods without t0 are dashed, recommended t0 dotted."""
    color, shape = _looks(row["method"] for row in rows)
    x = _number("t0") | {"scale": {"zero": False, "padding": 12}}
    y = _number("value", title=title)
    tooltip = _tooltip(label="setting", text="value")
    curve = {"color": color, "x": x, "detail": {"field": "line", "type": "nominal"}}
    level = {"color": color, "y": y}
    over_t0 = {"filter": "isValid(datum.t0)"}
    without = {"filter": "!isValid(datum.t0)"}
    dashed = {"type": "rule", "strokeDash": [6, 4], "strokeWidth": 2}
    dotted = {"type": "rule", "strokeDash": [1, 3], "strokeWidth": 2, "tooltip": None}
    band = {"type": "area", "opacity": 0.15, "tooltip": None}
    line = {"type": "line", "strokeWidth": 2, "tooltip": None}
    layers = [
        _layer(band, curve, over_t0, y=y | {"field": "low"}, y2={"field": "high"}),
        _layer(dashed, level, without, tooltip=tooltip),
        *_level_names((row["line"] for row in rows if row["t0"] is None), level),
        _layer(line, curve, over_t0, y=y),
        _layer({**_POINT, "size": 70}, curve, over_t0, y=y, shape=shape, tooltip=tooltip),
        _layer(dotted, {"color": color, "x": x}, over_t0)
        | {"data": _values(recommended, ("method", "t0"))},
    ]
    names = ("method", "line", "t0", "value", "low", "high", "label", "text")
    return _chart(rows, names, layers, height=360)


def _level_names(lines: Iterable[str], shared: Chart) -> Iterator[Chart]:
    """Write the names of dashed lines side by side, so that close lines stay readable."""
    mark = {"type": "text", "align": "left", "dy": -7, "tooltip": None}
    channels = {"x": {"value": 0}, "text": {"field": "line", "type": "nominal"}}
    left_px = 4
    for line in dict.fromkeys(one_line(line) for line in lines):
        only = {"and": ["!isValid(datum.t0)", {"field": "line", "equal": line}]}
        yield _layer({**mark, "dx": left_px}, shared, {"filter": only}, **channels)
        left_px += 7 * len(line) + 10


def difference_chart(rows: Sequence[Row], *, title: str) -> Chart:
    """Draw differences with intervals, a line for each plugin, and a rule at 0."""
    order = [one_line(row["plugin"]) for row in rows]
    axis = {"title": None, "labelLimit": 260}
    shared = {
        "y": {"field": "plugin", "type": "nominal", "sort": order, "axis": axis},
        "color": {"value": method_style("xadapter").color},
    }
    zero = {"type": "rule", "strokeDash": [4, 3], "color": GRAY, "tooltip": None}
    value = _number("value", title=title)
    tooltip = _tooltip(plugin="plugin", text="difference")
    layers = [
        _layer(zero, {}, x={"datum": 0}),
        _layer(_RULE, shared, x=value | {"field": "low"}, x2={"field": "high"}),
        _layer(_POINT, shared, x=value, tooltip=tooltip),
    ]
    names = ("plugin", "value", "low", "high", "text")
    return _chart(rows, names, layers, height=_height(len(rows), 28))


def _front_line(front: Sequence[Row], *, x: Chart, y: Chart) -> Chart:
    mark = {"type": "line", "interpolate": "step-before", "strokeWidth": 5, "opacity": 0.35}
    layer = _layer({**mark, "color": GRAY, "tooltip": None}, {"x": x, "y": y, "order": x})
    return layer | {"data": _values(front, ("retention", "gain"))}


def _readable(row: Row) -> Row:
    """Clip intervals to the visible range and add t0 as text."""
    ends = [f"{name}_{end}" for name in ("retention", "gain") for end in ("low", "high")]
    cut = {
        name: min(max(row[name], _RANGE[0]), _RANGE[1]) for name in ends if row[name] is not None
    }
    return {**row, **cut, "t0_text": "" if row["t0"] is None else f"{row['t0']:g}"}


def _looks(methods: Iterable[str]) -> tuple[Chart, Chart]:
    names = method_order(methods)
    styles = [method_style(name) for name in names]
    shapes = [_PATHS.get(style.marker, style.marker) for style in styles]
    domain = [one_line(name) for name in names]
    method = {"field": "method", "type": "nominal", "legend": _LEGEND}
    return (
        method | {"scale": {"domain": domain, "range": [style.color for style in styles]}},
        method | {"scale": {"domain": domain, "range": shapes}},
    )


def _layer(mark: Chart, shared: Mapping[str, Any], only: Chart | None = None, **own: Any) -> Chart:
    # screen readers get the alt text and the table; marks are hidden from them
    layer: Chart = {"mark": {**mark, "aria": False}, "encoding": {**shared, **own}}
    return layer | {"transform": [only]} if only else layer


def _number(field: str, *, title: str | None = None) -> Chart:
    return {
        "field": field,
        "type": "quantitative",
        "title": title or field,
        "scale": {"zero": False},
    }


def _tooltip(**titles: str) -> list[Chart]:
    return [{"field": name, "type": "nominal", "title": title} for name, title in titles.items()]


def _height(n_rows: int, row_px: int) -> int:
    """Return the height in px of the rows, the legend and the axis."""
    return n_rows * row_px + 110


def _chart(
    rows: Sequence[Row], names: Sequence[str], layers: Sequence[Chart], *, height: int
) -> Chart:
    # Streamlit would send rows of the outermost layer separately and draw them late
    inner = {"data": _values(rows, names), "layer": list(layers)}
    return {"layer": [inner], "height": height}


def _values(rows: Sequence[Row], names: Sequence[str]) -> Chart:
    """Select columns of rows as chart data; untrusted text is cut to one line."""
    return {"values": [{name: _plain(row.get(name)) for name in names} for row in rows]}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    return None if isinstance(value, float) and not isfinite(value) else value
