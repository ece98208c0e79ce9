"""Facts of a plugin in a run: manifest entry, source page, load audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.site.sources import source_page
from bench.store import Row
from leaderboard.data import Run, RunTables
from leaderboard.figures.standings import manifest_plugins

_CARD = {
    "kind": "Kind",
    "source": "Source",
    "license": "License",
    "trigger": "Trigger words",
    "condition": "Condition",
    "weight": "Weight",
    "native": "Native twin",
    "converted": "Converted file",
    "sha256": "SHA-256",
}


def card_of(run: Run, plugin: str) -> Row:
    """Return the manifest entry of a plugin as title -> text; {} for a stack."""
    entry = manifest_plugins(run.manifest).get(plugin, {})
    card = {title: entry.get(name) for name, title in _CARD.items()}
    return {title: _as_text(value) for title, value in card.items() if value not in (None, "", [])}


def source_of(run: Run, plugin: str) -> str | None:
    """Return the plugin's web page: an https address on the host of its source, or None."""
    return source_page(manifest_plugins(run.manifest).get(plugin, {}).get("source"))


def audit_of(tables: RunTables, plugin: str) -> Row | None:
    """Return the counts of a plugin's load audit; None if it has no audit."""
    rows = tables.rows(
        "SELECT count(*) AS n, count(*) FILTER (WHERE NOT coalesce(missing, false) AND "
        "coalesce(applied, 0) <> 0) AS n_applied, count(*) FILTER (WHERE missing) AS n_missing, "
        "count(*) FILTER (WHERE extra) AS n_extra, sum(coalesce(non_finite, 0)) AS n_bad, "
        "count(*) FILTER (WHERE reason IS NOT NULL) AS n_remarks, max(max_error) AS max_error "
        "FROM audit WHERE plugin = ?",
        [plugin],
    )
    return rows[0] if rows[0]["n"] else None


def audit_rows(tables: RunTables, plugin: str, *, only_remarks: bool, most: int) -> list[Row]:
    """Return a plugin's audit rows, those with a reason first."""
    wanted = "AND reason IS NOT NULL" if only_remarks else ""
    return tables.rows(
        "SELECT module, formula, expected, applied, missing, extra, max_error, reason, detail "
        f"FROM audit WHERE plugin = ? {wanted} "
        f"ORDER BY reason IS NULL, reason, module LIMIT {int(most)}",
        [plugin],
    )


def _as_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_part(part) for part in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_part(part)}" for name, part in value.items())
    return str(value)


def _part(value: Any) -> str:
    """Return a scalar as text, "…" for deeper nesting: YAML aliases can make it endless."""
    return "…" if isinstance(value, list | tuple | Mapping) else str(value)
