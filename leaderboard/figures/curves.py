"""A plugin's metrics over t0."""

from __future__ import annotations

from bench.analysis.words import row_line
from bench.report.styles import method_order
from bench.store import Row
from leaderboard.data import RunTables
from leaderboard.figures.arms import setting_label


def metrics_of(tables: RunTables, plugin: str) -> list[str]:
    """Return the metrics of a plugin's summary: its function first, quality second."""
    rows = tables.rows(
        "SELECT DISTINCT metric FROM summary WHERE plugin = ? AND metric IS NOT NULL "
        "ORDER BY metric",
        [plugin],
    )
    roles = tables.rows(
        "SELECT any_value(function_metric) AS f, any_value(quality_metric) AS q "
        "FROM compatibility WHERE plugin = ?",
        [plugin],
    )
    names = [row["metric"] for row in rows]
    first = [roles[0]["f"], roles[0]["q"]]
    return sorted(names, key=lambda name: (first.index(name) if name in first else 2, name))


def curve_rows(tables: RunTables, plugin: str, metric: str) -> list[Row]:
    """Return value and interval of a metric for each setting, with `label` and `line`.

    A line joins settings of one method that differ only in t0.
    """
    rows = tables.rows(
        "SELECT method, t0, plugin_scale, adapter_scale, adapter, value, low, high, better, "
        "recipe, n FROM summary WHERE plugin = ? AND metric = ? AND isfinite(value)",
        [plugin, metric],
    )
    for row in rows:
        row["label"] = setting_label(row)
        row["line"] = setting_label({**row, "t0": None})
        row["method"] = row_line(row)
    places = {name: i for i, name in enumerate(method_order(row["method"] for row in rows))}
    return sorted(rows, key=lambda row: (places[row["method"]], row["line"], row["t0"] or 0))
