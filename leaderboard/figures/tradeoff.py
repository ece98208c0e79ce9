"""Retention against the distance of quality of a plugin's settings."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.words import REFERENCES, row_line
from bench.report.styles import method_order
from bench.store import Row
from leaderboard.data import RunTables
from leaderboard.figures.arms import setting_label
from leaderboard.figures.verdicts import compatibility_of, has_judged_look, mark_of

_KNOBS = ("method", "t0", "plugin_scale", "adapter_scale", "adapter")


def tradeoff_rows(tables: RunTables, plugin: str) -> list[Row]:
    """Return the settings with both numbers, `label`, `mark` and an example's `trial_id`.

    None unless the distance is judged: it has a word, or a native plugin as reference.
    """
    rows = _settings(compatibility_of(tables, plugin))
    own = [row for row in rows if row["method"] not in REFERENCES]
    if not any(has_judged_look(row) for row in own):
        return []
    rows = [row for row in rows if None not in (row["retention"], row["quality"])]
    rows = [row for row in rows if row["method"] in REFERENCES or has_judged_look(row)]
    examples = _examples(tables, plugin)
    for row in rows:
        row["label"], row["mark"] = setting_label(row), mark_of(row)
        row.update(examples.get(_knobs(row), {"trial_id": None, "image_sha256": None}))
        row["method"] = row_line(row)
    places = {name: i for i, name in enumerate(method_order(row["method"] for row in rows))}
    return sorted(rows, key=lambda row: (places[row["method"]], row["t0"] or 0, row["label"]))


def why_no_tradeoff(rows: Sequence[Row]) -> str:
    """Return why the settings of one plugin have no distance of quality that is judged."""
    own = [row for row in _settings(rows) if row["method"] not in REFERENCES]
    reasons = [row[name] for name in ("quality_reason", "reason") for row in own if row[name]]
    if reasons:
        return f"The look of this plugin's images is not judged: {reasons[0]}."
    return "The look of this plugin's images is not judged in this run."


def _settings(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["level"] == "setting"]


def _examples(tables: RunTables, plugin: str) -> dict[tuple[object, ...], Row]:
    """Return an example image of each setting, of the same case and seed where possible."""
    rows = tables.rows(
        f"SELECT {', '.join(_KNOBS)}, arg_min(trial_id, (case_id, seed)) AS trial_id, "
        "arg_min(image_sha256, (case_id, seed)) AS image_sha256 FROM images "
        "WHERE plugin = ? AND status = 'ok' GROUP BY ALL",
        [plugin],
    )
    return {_knobs(row): {name: row[name] for name in ("trial_id", "image_sha256")} for row in rows}


def _knobs(row: Row) -> tuple[object, ...]:
    return tuple(row[name] for name in _KNOBS)
