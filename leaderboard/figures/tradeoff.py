"""The trade-off of a plugin: retention against quality gain of every setting, and the best ones."""

from __future__ import annotations

from collections.abc import Sequence

from bench.store.rows import Row
from leaderboard.data.tables import RunTables
from leaderboard.figures.arms import in_order, setting_label
from metrics.stats.pareto import pareto_front

ENDS = ("retention", "gain")
# a ceiling and the axes' own ends are no choice that one has after an upgrade
REFERENCES = frozenset({"base", "floor", "oracle"})


def plane_rows(tables: RunTables, plugin: str) -> list[Row]:
    """Every setting with both numbers, its `label`, an example's `trial_id`, and `on_front`."""
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
    places = {name: i for i, name in enumerate(in_order(row["method"] for row in rows))}
    return sorted(rows, key=lambda row: (places[row["method"]], row["t0"] or 0, row["label"]))


def front_of(rows: Sequence[Row]) -> list[Row]:
    """The rows on the front from left to right, each place once."""
    places = {(row["retention"], row["gain"]): row for row in rows if row["on_front"]}
    return [places[place] for place in sorted(places)]


def _examples(tables: RunTables, plugin: str) -> dict[tuple[object, ...], Row]:
    """The first image of every setting, of the same case and seed as far as there is one."""
    rows = tables.rows(
        "SELECT method, t0, plugin_scale, adapter_scale, arg_min(trial_id, (case_id, seed)) "
        "AS trial_id, arg_min(image_sha256, (case_id, seed)) AS image_sha256 FROM images "
        "WHERE plugin = ? AND status = 'ok' GROUP BY ALL",
        [plugin],
    )
    return {_knobs(row): {name: row[name] for name in ("trial_id", "image_sha256")} for row in rows}


def _knobs(row: Row) -> tuple[object, ...]:
    return row["method"], row["t0"], row["plugin_scale"], row["adapter_scale"]
