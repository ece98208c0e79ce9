"""Retention against quality gain of a plugin's settings, and their Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.styles import method_order
from bench.store import Row
from leaderboard.data import RunTables
from leaderboard.figures.arms import setting_label
from metrics.stats import pareto_front

ENDS = ("retention", "gain")
# the ceiling and the ends of the axes are not options after an upgrade
REFERENCES = frozenset({"base", "floor", "oracle"})


def tradeoff_rows(tables: RunTables, plugin: str) -> list[Row]:
    """Return the settings with both numbers, `label`, an example's `trial_id`, and `on_front`."""
    rows = tables.rows(
        "SELECT method, t0, plugin_scale, adapter_scale, retention, retention_low, retention_high, "
        "gain, gain_low, gain_high, gain_reference, gain_metric, function_metric, seconds "
        "FROM compatibility WHERE level = 'setting' AND plugin = ? "
        "AND isfinite(retention) AND isfinite(gain)",
        [plugin],
    )
    examples = _examples(tables, plugin)
    choices = [row for row in rows if row["method"] not in REFERENCES]
    front = set(pareto_front([(row["retention"], row["gain"]) for row in choices]))
    for row in rows:
        row["label"] = setting_label(row)
        row.update(examples.get(_knobs(row), {"trial_id": None, "image_sha256": None}))
        row["on_front"] = row in choices and (row["retention"], row["gain"]) in front
    places = {name: i for i, name in enumerate(method_order(row["method"] for row in rows))}
    return sorted(rows, key=lambda row: (places[row["method"]], row["t0"] or 0, row["label"]))


def front_of(rows: Sequence[Row]) -> list[Row]:
    """Return the rows on the front from left to right, without duplicates."""
    places = {(row["retention"], row["gain"]): row for row in rows if row["on_front"]}
    return [places[place] for place in sorted(places)]


def _examples(tables: RunTables, plugin: str) -> dict[tuple[object, ...], Row]:
    """Return an example image of each setting, of the same case and seed where possible."""
    rows = tables.rows(
        "SELECT method, t0, plugin_scale, adapter_scale, arg_min(trial_id, (case_id, seed)) "
        "AS trial_id, arg_min(image_sha256, (case_id, seed)) AS image_sha256 FROM images "
        "WHERE plugin = ? AND status = 'ok' GROUP BY ALL",
        [plugin],
    )
    return {_knobs(row): {name: row[name] for name in ("trial_id", "image_sha256")} for row in rows}


def _knobs(row: Row) -> tuple[object, ...]:
    return row["method"], row["t0"], row["plugin_scale"], row["adapter_scale"]
