"""The settings of a run (method, t0, scales), with labels in display order."""

from __future__ import annotations

from dataclasses import dataclass

from bench.analysis.words import label_of, row_line
from bench.report.styles import method_order
from bench.store import Row
from leaderboard.data import RunTables

# images `i` of a plugin, and those without any plugin that are its references: of its cases, with
# the same steps, guidance and sampler
OF_PLUGIN = (
    "(i.plugin = $plugin OR (i.plugin = '' AND (i.case_id, coalesce(i.settings, '')) IN "
    "(SELECT (case_id, coalesce(settings, '')) FROM trials WHERE plugin = $plugin)))"
)


@dataclass(frozen=True)
class Setting:
    """A method with its t0 and scales; `number` is its `setting` in the `images` table.

    `method` also names one of several adapters; `id` names it in addresses, `label` on the page.
    """

    number: int
    method: str
    t0: float | None
    id: str
    label: str


def settings_of(tables: RunTables, plugin: str) -> list[Setting]:
    """Return the settings used for a plugin's prompts, with or without the plugin."""
    rows = tables.rows(
        "SELECT DISTINCT setting, method, t0, plugin_scale, adapter_scale, adapter FROM images i "
        f"WHERE {OF_PLUGIN}",
        {"plugin": plugin},
    )
    found = [
        Setting(
            number=int(row["setting"]),
            method=row_line(row),
            t0=row["t0"],
            id=setting_id(row),
            label=setting_label(row),
        )
        for row in rows
    ]
    places = {line: i for i, line in enumerate(method_order(s.method for s in found))}
    return sorted(found, key=lambda s: (places[s.method], s.t0 or 0, s.id))


def setting_label(row: Row) -> str:
    """Return a setting in plain words: 'X-Adapter at t0 0.7', with scales that are not 1."""
    return label_of(row)


def setting_id(row: Row) -> str:
    """Return a setting by the method's id, as addresses have it: 'xadapter t0 0.7'."""
    parts = [row_line(row)]
    for name, mark in (
        ("t0", "t0 "),
        ("plugin_scale", "plugin x "),
        ("adapter_scale", "adapter x "),
    ):
        value = row[name]
        if value is not None and (name == "t0" or value != 1):
            parts.append(f"{mark}{value:g}")
    return " ".join(parts)
