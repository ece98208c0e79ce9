"""The charts of the pages: each takes plain rows and returns an Altair chart.

A method has its color and, where points are shown, a shape of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from bench.palette import GRAY, method_colors
from bench.rows import Row
from leaderboard.numbers import known
from leaderboard.plain import one_line
from leaderboard.settings import in_order

Chart = alt.LayerChart | alt.FacetChart
_SHAPES = {
    "base": "circle",
    "sdedit": "square",
    "xadapter": "triangle-up",
    "hires": "diamond",
    "oracle": "cross",
    "floor": "triangle-down",
}
_OTHER_SHAPES = ("triangle-left", "triangle-right", "stroke")
_LEGEND: Mapping[str, Any] = {
    "orient": "top",
    "title": None,
    "columns": 3,
    "symbolOpacity": 1,
    "symbolSize": 90,
}
_NO_TOOLTIP = alt.value(None)
_RANGE = (-0.5, 1.5)  # the interval of a ratio may be huge: what is shown of it


def score_chart(rows: Sequence[Row]) -> Chart:
    """Scores with intervals, a line for each plugin, a mark for each method."""
    frame = _plain(rows, ("plugin", "method", "score", "score_low", "score_high", "said"))
    color, shape = _looks(frame)
    place = alt.Y("plugin:N", title=None, axis=alt.Axis(labelLimit=260, domain=False, ticks=False))
    offset = alt.YOffset("method:N", sort=in_order(frame["method"]))
    base = alt.Chart(frame).encode(y=place, yOffset=offset, color=color)
    score = alt.X("score:Q", title="compatibility score", scale=alt.Scale(domain=[0, 1]))
    tooltip = _tooltip(method="method", said="score")
    ends = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("score_low:Q"), x2="score_high:Q", tooltip=_NO_TOOLTIP
    )
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=score, shape=shape, tooltip=tooltip
    )
    return (ends + points).properties(height=_height(len(frame), 21))


def plane_chart(rows: Sequence[Row], front: Sequence[Row]) -> Chart:
    """Retention against quality gain: points labelled with t0, whiskers, the Pareto front.

    A row's `image` is the address of an example, shown with the point's numbers.
    """
    names = ("method", "t0", "retention", "retention_low", "retention_high")
    names += ("gain", "gain_low", "gain_high", "label", "said_retention", "said_gain", "image")
    frame = _plain(rows, names)
    for name in ("retention_low", "retention_high", "gain_low", "gain_high"):
        frame[name] = frame[name].astype(float).clip(*_RANGE)
    frame["t0_text"] = [f"{t0:g}" if known(t0) else "" for t0 in frame["t0"]]
    color, shape = _looks(frame)
    x = alt.X("retention:Q", title="retention of the plugin", scale=alt.Scale(zero=False))
    y = alt.Y("gain:Q", title="gain in quality", scale=alt.Scale(zero=False))
    base = alt.Chart(frame).encode(color=color)
    rule = base.mark_rule(opacity=0.35).encode(tooltip=_NO_TOOLTIP)
    layers = [
        _front_line(front),
        rule.encode(x=alt.X("retention_low:Q"), x2="retention_high:Q", y=y),
        rule.encode(y=alt.Y("gain_low:Q"), y2="gain_high:Q", x=x),
        base.mark_line(strokeDash=[2, 2], opacity=0.6).encode(
            x=x, y=y, order="t0:Q", tooltip=_NO_TOOLTIP
        ),
        base.mark_point(filled=True, size=110, opacity=1).encode(
            x=x,
            y=y,
            shape=shape,
            tooltip=_tooltip(
                label="setting", said_retention="retention", said_gain="gain", image="image"
            ),
        ),
        base.mark_text(dx=9, dy=-8, align="left", fontSize=11).encode(
            x=x, y=y, text="t0_text:N", tooltip=_NO_TOOLTIP
        ),
    ]
    return alt.layer(*layers).properties(height=460)


def _front_line(front: Sequence[Row]) -> alt.Chart:
    frame = _plain(front, ("retention", "gain"))
    mark = alt.Chart(frame).mark_line(
        interpolate="step-before", color=GRAY, strokeWidth=5, opacity=0.35
    )
    return mark.encode(x="retention:Q", y="gain:Q", order="retention:Q", tooltip=_NO_TOOLTIP)


def curve_chart(rows: Sequence[Row], *, title: str, recommended: Sequence[Row] = ()) -> Chart:
    """A metric over t0 with bands; methods without t0 are dashed lines; recommended t0 is ruled."""
    frame = _plain(rows, ("method", "line", "t0", "value", "low", "high", "label", "said"))
    curves, levels = frame.loc[frame["t0"].notna()], frame.loc[frame["t0"].isna()]
    color, shape = _looks(frame)
    x = alt.X("t0:Q", title="t0", scale=alt.Scale(zero=False, padding=12))
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False))
    tooltip = _tooltip(label="setting", said="value")
    base = alt.Chart(curves).encode(color=color, x=x, detail="line:N")
    level = alt.Chart(levels).encode(y=y, color=color)
    marks = _plain(recommended, ("method", "t0"))
    layers = [
        base.mark_area(opacity=0.15).encode(
            y=alt.Y("low:Q", title=title), y2="high:Q", tooltip=_NO_TOOLTIP
        ),
        level.mark_rule(strokeDash=[6, 4], strokeWidth=2).encode(tooltip=tooltip),
        level.mark_text(align="left", dx=4, dy=-7).encode(
            x=alt.value(0), text="line:N", tooltip=_NO_TOOLTIP
        ),
        base.mark_line(strokeWidth=2).encode(y=y, tooltip=_NO_TOOLTIP),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=y, shape=shape, tooltip=tooltip),
        alt.Chart(marks.loc[marks["t0"].notna()])
        .mark_rule(strokeDash=[1, 3], strokeWidth=2)
        .encode(x="t0:Q", color=color, tooltip=_NO_TOOLTIP),
    ]
    return alt.layer(*layers).properties(height=360)


def difference_chart(rows: Sequence[Row], *, title: str) -> Chart:
    """Differences with intervals, a line for each plugin; 0 is ruled."""
    frame = _plain(rows, ("plugin", "value", "low", "high", "said"))
    order = [one_line(row["plugin"]) for row in rows]
    place = alt.Y("plugin:N", sort=order, title=None, axis=alt.Axis(labelLimit=260))
    base = alt.Chart(frame).encode(y=place)
    zero = alt.Chart(pd.DataFrame({"zero": [0.0]})).mark_rule(color=GRAY, strokeDash=[4, 3])
    color = alt.value(method_colors(["xadapter"])["xadapter"])
    layers = [
        zero.encode(x="zero:Q", tooltip=_NO_TOOLTIP),
        base.mark_rule(strokeWidth=2).encode(
            x=alt.X("low:Q"), x2="high:Q", color=color, tooltip=_NO_TOOLTIP
        ),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x=alt.X("value:Q", title=title),
            color=color,
            tooltip=_tooltip(plugin="plugin", said="difference"),
        ),
    ]
    return alt.layer(*layers).properties(height=_height(len(rows), 28))


def _height(n_rows: int, row_px: int) -> int:
    """Room for the rows, the legend and the axis."""
    return n_rows * row_px + 110


def _looks(frame: pd.DataFrame) -> tuple[alt.Color, alt.Shape]:
    methods = in_order(frame["method"])
    colors = method_colors(methods)
    shapes = [
        _SHAPES.get(method, _OTHER_SHAPES[i % len(_OTHER_SHAPES)])
        for i, method in enumerate(methods)
    ]
    color_scale = alt.Scale(domain=methods, range=[colors[m] for m in methods])
    shape_scale = alt.Scale(domain=methods, range=shapes)
    legend = alt.Legend(**_LEGEND)
    return (
        alt.Color("method:N", scale=color_scale, legend=legend),
        alt.Shape("method:N", scale=shape_scale, legend=legend),
    )


def _plain(rows: Sequence[Row], names: Sequence[str]) -> pd.DataFrame:
    """Some columns of rows; text comes from outside and is cut to one line."""
    return pd.DataFrame(
        [
            {n: one_line(v) if isinstance(v := row.get(n), str) else v for n in names}
            for row in rows
        ],
        columns=list(names),
    )


def _tooltip(**titles: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:N", title=title) for name, title in titles.items()]
