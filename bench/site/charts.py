"""Two drawings of a plugin's settings: function over t0, and quality against function.

Only places on the drawing are computed here; templates draw them as SVG.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from bench.analysis.glossary import method_name
from bench.analysis.numbers import number
from bench.analysis.words import REFERENCES, mark_of, row_line
from bench.registry import line_styles, method_order
from bench.site.runs import SitePlugin
from bench.store import Row
from runners.base import MethodStyle

View = dict[str, Any]
WIDTH, HEIGHT = 560, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 400, 14, 236  # of the drawing; labels are right of it
_LABEL_PX = 15
_LOW, _HIGH = -0.3, 1.5  # share kept
_SHARES = (0.0, 0.5, 1.0)


def function_chart(plugin: SitePlugin) -> View | None:
    """Return the share kept over t0, a line for each method; None where there is no line."""
    rows = [row for row in _judged(plugin) if row["t0"] is not None]
    if len({row["t0"] for row in rows}) < 2:
        return None
    t0s = sorted({row["t0"] for row in rows})
    low, high = _padded(t0s)
    lines, looks = [], line_styles(row_line(row) for row in rows)
    for name, own in _by_line(rows).items():
        points = [
            (_x(row["t0"], low, high), _y(row["retention"]), _interval(row))
            for row in sorted(own, key=lambda row: row["t0"])
        ]
        lines.append({**_style(own[0], looks), "name": name, "points": points, "y": points[-1][1]})
    levels = [
        {"name": method_name(row["method"]), "y": _y(row["retention"])}
        for row in plugin.settings
        if row["method"] in REFERENCES and _known(row["retention"])
    ]
    labels = _apart([*lines, *levels])
    x_ticks = [{"x": _x(t0, low, high), "text": f"{t0:g}"} for t0 in t0s]
    y_ticks = [{"y": _y(value), "text": f"{100 * value:g} %"} for value in _SHARES]
    return {
        **_frame(x_ticks, y_ticks, "t0: how much is redrawn"),
        "title": "Share of the effect kept, over t0",
        "lines": lines,
        "levels": levels,
        "labels": labels,
        "points": [],
    }


def quality_chart(plugin: SitePlugin) -> View | None:
    """Return the images' distance against the share kept; None where quality cannot be told."""
    rows = [row for row in _judged(plugin) if _known(row["quality"]) and row["quality_word"]]
    if not any(row["quality_word"] != "cannot be told" for row in rows):
        return None
    looks = line_styles(row_line(row) for row in rows)
    low, high = _padded([row["quality"] for row in rows])
    points = [
        {
            **_style(row, looks),
            "x": round(_LEFT + (_RIGHT - _LEFT) * _inside(row["retention"]), 1),
            "y": round(_TOP + (_BOTTOM - _TOP) * (row["quality"] - low) / (high - low), 1),
            "text": ("" if row["t0"] is None else f"{row['t0']:g}") + mark_of(row),
        }
        for row in rows
    ]
    labels = _apart(
        [{**_style(own[0], looks), "name": name, "y": _TOP} for name, own in _by_line(rows).items()]
    )
    x_ticks = [
        {"x": round(_LEFT + (_RIGHT - _LEFT) * _inside(value), 1), "text": f"{100 * value:g} %"}
        for value in _SHARES
    ]
    ends = ((low, _TOP), (high, _BOTTOM))
    y_ticks = [{"y": y, "text": number(value, digits=2)} for value, y in ends]
    return {
        **_frame(x_ticks, y_ticks, "share of the effect kept"),
        "title": "Distance of the images' look (up is better), against the share kept",
        "lines": [],
        "levels": [],
        "labels": labels,
        "points": points,
    }


def _judged(plugin: SitePlugin) -> list[Row]:
    """Return the settings with a share kept, without references."""
    return [
        row
        for row in plugin.settings
        if row["method"] not in REFERENCES and _known(row["retention"])
    ]


def _by_line(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return rows by method and scales, in the order of legends."""
    found: dict[str, list[Row]] = {}
    listed = list(rows)
    places = {name: i for i, name in enumerate(method_order(row_line(row) for row in listed))}
    for row in sorted(listed, key=lambda row: places[row_line(row)]):
        scales = [
            f"{name} {row[key]:g}"
            for name, key in (("plugin", "plugin_scale"), ("adapter", "adapter_scale"))
            if row[key] not in (None, 1.0)
        ]
        found.setdefault(", ".join([method_name(row_line(row)), *scales]), []).append(row)
    return found


def _style(row: Row, looks: Mapping[str, MethodStyle]) -> View:
    return {"color": looks[row_line(row)].color}


def _frame(x_ticks: Sequence[View], y_ticks: Sequence[View], x_title: str) -> View:
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": _LEFT,
        "right": _RIGHT,
        "top": _TOP,
        "bottom": _BOTTOM,
        "x_ticks": x_ticks,
        "y_ticks": y_ticks,
        "x_title": x_title,
    }


def _apart(named: Sequence[View]) -> list[View]:
    """Return labels beside the ends of lines, moved apart where they would overlap."""
    labels = sorted(
        ({"name": n["name"], "y": n["y"], "color": n.get("color")} for n in named),
        key=lambda label: label["y"],
    )
    for i, label in enumerate(labels):
        lowest = labels[i - 1]["y"] + _LABEL_PX if i else _TOP
        label["y"] = round(max(label["y"], lowest), 1)
    beyond = labels[-1]["y"] - _BOTTOM if labels else 0
    limit = float(_BOTTOM)
    for label in reversed(labels) if beyond > 0 else ():
        label["y"] = round(min(label["y"], limit), 1)
        limit = label["y"] - _LABEL_PX
    return labels


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    padding = (high - low) * 0.05 or 0.5
    return low - padding, high + padding


def _x(value: float, low: float, high: float) -> float:
    return round(_LEFT + (_RIGHT - _LEFT) * (value - low) / (high - low), 1)


def _y(share: float) -> float:
    return round(_BOTTOM - (_BOTTOM - _TOP) * _inside(share), 1)


def _inside(share: float) -> float:
    return (min(max(share, _LOW), _HIGH) - _LOW) / (_HIGH - _LOW)


def _interval(row: Row) -> tuple[float, float] | None:
    low, high = row["retention_low"], row["retention_high"]
    return (_y(low), _y(high)) if _known(low) and _known(high) else None


def _known(value: float | None) -> bool:
    return value is not None and isfinite(value)
