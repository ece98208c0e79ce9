"""The charts of the pages: each takes plain rows and returns a Vega-Lite specification.

Each method has its plain name, a color and a marker. Only points have tooltips. Specifications are
plain dictionaries: building them with a validating library takes 70 ms a chart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from bench.analysis.glossary import legend_name
from bench.analysis.words import share
from bench.report.styles import GRAY, line_styles, method_order
from bench.store import Row
from leaderboard.escape import one_line

Chart = dict[str, Any]
# markers that Vega has no shape for, as SVG paths in a square from -1 to 1
_PATHS = {
    "x": "M-.7-1L0-.3L.7-1L1-.7L.3 0L1 .7L.7 1L0 .3L-.7 1L-1 .7L-.3 0L-1-.7Z",
    "star": "M0-1L.22-.31L.95-.31L.36 .12L.59 .81L0 .38L-.59 .81L-.36 .12L-.95-.31L-.22-.31Z",
    "pentagon": "M0-1L.95-.31L.59 .81L-.59 .81L-.95-.31Z",
    "hexagon": "M0-1L.87-.5L.87 .5L0 1L-.87 .5L-.87-.5Z",
    "octagon": "M-.4-1L.4-1L1-.4L1 .4L.4 1L-.4 1L-1 .4L-1-.4Z",
    "thin-diamond": "M0-1L.6 0L0 1L-.6 0Z",
}
# names of methods are long: fewer columns on a phone
_COLUMNS = {"expr": "width < 360 ? 1 : width < 520 ? 2 : 3"}
_LEGEND = {"orient": "top", "title": None, "columns": _COLUMNS, "labelLimit": 260}
_LEGEND |= {"symbolOpacity": 1, "symbolSize": 90}
_T0_TITLE = "t0: how much the new model redraws"
_SHARES = (-1, -0.5, 0, 0.5, 1, 1.5, 2)
_PERCENT = "format(datum.value * 100, '.3~r') + ' %'"
# a share's two ends in words, below the tick
_SHARE_ENDS = (
    "datum.value == 0 ? ['0 %', 'without plugin'] : datum.value == 1 ? ['100 %', 'base model'] : "
    f"{_PERCENT}"
)
_RANGE = (-0.5, 1.5)  # visible range: the interval of a ratio may be huge
_POINT = {"type": "point", "filled": True, "size": 90, "opacity": 1}
_RULE = {"type": "rule", "strokeWidth": 2, "tooltip": None}


def retention_chart(rows: Sequence[Row]) -> Chart:
    """Draw retention with intervals, a line for each plugin and method, and rules at 0 and 1."""
    color, shape = _looks(row["method"] for row in rows)
    order = [_name(method) for method in method_order(row["method"] for row in rows)]
    plugins = list(dict.fromkeys(one_line(row["plugin"]) for row in rows))
    axis = {"title": None, "labelLimit": 260, "domain": False, "ticks": False}
    shared = {
        "y": {"field": "plugin", "type": "nominal", "axis": axis, "sort": plugins},
        "yOffset": {"field": "method", "type": "nominal", "sort": order},
        "color": color,
    }
    x = _share("retention", labels=_SHARE_ENDS)
    tooltip = _tooltip(method="method", text="keeps", verdict="verdict")
    layers = [
        *_ends_of_retention("x"),
        _layer(_RULE, shared, x=x | {"field": "retention_low"}, x2={"field": "retention_high"}),
        _layer(_POINT, shared, x=x, shape=shape, tooltip=tooltip),
    ]
    names = ("plugin", "method", "retention", "retention_low", "retention_high", "text", "verdict")
    drawn = [
        {
            **row,
            **_visible(row, "retention", "retention_low", "retention_high"),
            "text": share(row),
        }
        for row in rows
    ]
    return _chart(drawn, names, layers, height=_height(len(rows), 21))


def tradeoff_chart(rows: Sequence[Row], *, title: str) -> Chart:
    """Draw the share kept against a distance of quality: points labeled with t0 and mark, whiskers.

    A row's `image` is the address of an example for the tooltip.
    """
    color, shape = _looks(row["method"] for row in rows)
    x = _share("retention", labels=_SHARE_ENDS)
    y = _number("quality", title=f"{title}, lower is better")
    shared = {"color": color}
    whisker = {**_RULE, "strokeWidth": 1, "opacity": 0.7}
    line = {"type": "line", "strokeDash": [2, 2], "opacity": 0.6, "tooltip": None}
    label = {"type": "text", "dx": 9, "dy": -8, "align": "left", "fontSize": 11, "tooltip": None}
    tooltip = _tooltip(label="setting", verdict="verdict", retention_text="keeps")
    tooltip += _tooltip(quality_text="distance of the look", look="images", image="image")
    ends = {name: {"field": f"{name}_low"} for name in ("retention", "quality")}
    layers = [
        _layer(whisker, shared, x=x | ends["retention"], x2={"field": "retention_high"}, y=y),
        _layer(whisker, shared, y=y | ends["quality"], y2={"field": "quality_high"}, x=x),
        _layer(line, shared, x=x, y=y, order=_number("t0")),
        _layer({**_POINT, "size": 110}, shared, x=x, y=y, shape=shape, tooltip=tooltip),
        _layer(label, shared, x=x, y=y, text={"field": "t0_text", "type": "nominal"}),
    ]
    names = ("method", "t0", "t0_text", "retention", "retention_low", "retention_high", "quality")
    names += ("quality_low", "quality_high", "label", "retention_text", "quality_text", "image")
    names += ("verdict", "look")
    drawn = [
        {
            **row,
            **_visible(row, "retention", "retention_low", "retention_high"),
            "t0_text": _point_name(row),
        }
        for row in rows
    ]
    return _chart(drawn, names, layers, height=460)


def curve_chart(
    rows: Sequence[Row], *, title: str, recommended: Sequence[Row] = (), is_share: bool = False
) -> Chart:
    """Draw a metric over t0 with bands; methods without t0 are dashed, t0 to use dotted.

    A share kept is in per cent, and its bands are clipped: its interval may be huge.
    """
    rows = [{**row, **_visible(row, "value", "low", "high")} for row in rows] if is_share else rows
    color, shape = _looks(row["method"] for row in rows)
    t0s = sorted({row["t0"] for row in rows if row["t0"] is not None})
    x = _number("t0", title=_T0_TITLE)
    x |= {"scale": {"zero": False, "padding": 12}, "axis": {"format": ".3~f", "values": t0s}}
    y = _share("value", labels=_PERCENT) if is_share else _number("value", title=title)
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
        *_level_names(rows, level),
        _layer(line, curve, over_t0, y=y),
        _layer({**_POINT, "size": 70}, curve, over_t0, y=y, shape=shape, tooltip=tooltip),
        _layer(dotted, {"color": color, "x": x}, over_t0)
        | {"data": _values(recommended, ("method", "t0"))},
    ]
    names = ("method", "line", "t0", "value", "low", "high", "label", "text")
    return _chart(rows, names, layers, height=440)


def _level_names(rows: Sequence[Row], shared: Chart) -> Iterator[Chart]:
    """Write the names of dashed lines side by side, below a line that has another just above."""
    mark = {"type": "text", "align": "left", "tooltip": None}
    channels = {"x": {"value": 0}, "text": {"field": "line", "type": "nominal"}}
    values = [row["value"] for row in rows]
    near = 0.1 * (max(values, default=0.0) - min(values, default=0.0))
    levels = {one_line(row["line"]): row["value"] for row in rows if row["t0"] is None}
    left_px = 4
    for line, value in levels.items():
        only = {"and": ["!isValid(datum.t0)", {"field": "line", "equal": line}]}
        is_covered = any(0 < other - value < near for other in levels.values())
        place = {"dx": left_px, "dy": 8 if is_covered else -7}
        yield _layer({**mark, **place}, shared, {"filter": only}, **channels)
        left_px += 7 * len(line) + 10


def _ends_of_retention(axis: str) -> list[Chart]:
    """Return rules at 1, as on the old model, and at 0, as without the plugin."""
    mark = {"type": "rule", "strokeDash": [4, 3], "color": GRAY, "tooltip": None}
    return [_layer(mark, {}, **{axis: {"datum": end}}) for end in (0, 1)]


def _visible(row: Row, name: str, *ends: str) -> Row:
    """Return the two ends of a value's interval, clipped to a range that contains the value."""
    least, most = min(_RANGE[0], row[name]), max(_RANGE[1], row[name])
    return {end: None if row[end] is None else min(max(row[end], least), most) for end in ends}


def _point_name(row: Row) -> str:
    """Return t0 with the setting's mark."""
    parts = ["" if row["t0"] is None else f"{row['t0']:g}", row["mark"]]
    return " ".join(part for part in parts if part)


def _looks(methods: Iterable[str]) -> tuple[Chart, Chart]:
    found = line_styles(methods)
    names, styles = [*found], [*found.values()]
    shapes = [_PATHS.get(style.marker, style.marker) for style in styles]
    domain = [_name(name) for name in names]
    method = {"field": "method", "type": "nominal", "legend": _LEGEND}
    return (
        method | {"scale": {"domain": domain, "range": [style.color for style in styles]}},
        method | {"scale": {"domain": domain, "range": shapes}},
    )


def _layer(mark: Chart, shared: Mapping[str, Any], only: Chart | None = None, **own: Any) -> Chart:
    # screen readers get the alt text and the table; marks are hidden from them
    layer: Chart = {"mark": {**mark, "aria": False}, "encoding": {**shared, **own}}
    return layer | {"transform": [only]} if only else layer


def _name(method: str) -> str:
    return one_line(legend_name(method))


def _share(field: str, *, labels: str) -> Chart:
    axis = {"labelExpr": labels, "values": list(_SHARES)}
    return _number(field, title="share of the plugin's effect kept") | {"axis": axis}


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
    """Select columns of rows as chart data, methods by name; text is cut to one line."""
    listed = []
    for row in rows:
        values = {name: _plain(row.get(name)) for name in names}
        listed.append(values | {"method": _name(row["method"])} if "method" in names else values)
    return {"values": listed}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    return None if isinstance(value, float) and not isfinite(value) else value
