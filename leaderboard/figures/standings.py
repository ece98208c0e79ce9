"""Rank methods and plugins by compatibility score, with intervals of score and rank.

A rank interval contains the ranks that are compatible with the intervals of the scores: a row ranks
below all rows whose interval is entirely above its own, and above those entirely below (ours).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.store.recent import RecentItems
from leaderboard.data import Run, RunTables, open_tables
from leaderboard.data.catalog import text_of
from leaderboard.data.isolation import isolated
from leaderboard.escape import csv_cell

PLUGIN_COLUMNS = (
    *("rank", "rank_low", "rank_high", "run", "family", "adapter", "plugin", "kind", "condition"),
    *("license", "method", "t0", "score", "score_low", "score_high", "retention", "retention_low"),
    *("retention_high", "gain", "gain_low", "gain_high", "gain_reference", "recommended", "status"),
    *("reason", "score_reason", "n_prompts", "seconds"),
)
_RUN_COLUMNS = [name for name in PLUGIN_COLUMNS if not name.startswith("rank")]
_MEANS = ("score", "score_low", "score_high", "retention", "gain", "seconds")
_KEYS = ["run", "family", "adapter", "method"]
_Standings = tuple[pd.DataFrame, tuple[str, ...]]  # rows, problems
_STANDINGS = RecentItems[tuple[str, int], _Standings](1000)  # by folder and stamp


def open_standings(run: Run) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a run's rows for the overview, and its problems; cached while the run is unchanged.

    Many runs are ranked without keeping the tables of all of them open.
    """
    place = (str(run.folder), run.stamp)
    known = _STANDINGS.find(place)
    if known is not None:
        return known
    tables = open_tables(run)
    found = isolated(
        lambda: (plugin_rows(run, tables), tuple(tables.problems)),
        lambda line: (pd.DataFrame(columns=_RUN_COLUMNS), (*tables.problems, line)),
        run=run.key,
    )
    # a table that cannot be read may be readable the next time
    return _STANDINGS.add(place, found) if found[1] == run.problems else found


def plugin_rows(run: Run, tables: RunTables) -> pd.DataFrame:
    """Return one row per plugin and method of a run, with facts of the plugin from the manifest."""
    rows = tables.query(
        "SELECT coalesce(plugin, '') AS plugin, coalesce(kind, '') AS kind, "
        "coalesce(method, '') AS method, t0, score, score_low, score_high, retention, "
        "retention_low, retention_high, gain, gain_low, gain_high, gain_reference, recommended, "
        "status, reason, score_reason, n_prompts, seconds FROM compatibility WHERE level = 'method'"
    )
    entries = manifest_plugins(run.manifest)
    for column in ("condition", "license"):
        rows[column] = [text_of(entries.get(plugin, {}).get(column)) for plugin in rows["plugin"]]
    rows["run"], rows["family"], rows["adapter"] = run.key, run.family, run.adapter
    return rows.reindex(columns=_RUN_COLUMNS)


def manifest_plugins(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the plugins of a manifest by id; invalid entries are left out."""
    plugins = manifest.get("plugins")
    found = plugins if isinstance(plugins, list) else []
    return {
        entry["id"]: entry
        for entry in found
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    }


def method_rows(plugins: pd.DataFrame) -> pd.DataFrame:
    """Return ranked means over the plugins of each run and method.

    An interval is the mean of the plugins' bounds: never too narrow, whatever the dependence
    between the plugins' scores. Plugins without a score are counted in `n_unmeasured`.
    """
    known = plugins.assign(is_measured=plugins["score"].notna())
    groups = known.groupby(_KEYS, dropna=False, sort=False)
    rows = groups.agg(
        n_plugins=("is_measured", "sum"),
        n_unmeasured=("is_measured", lambda measured: int((~measured).sum())),
        **{name: (name, "mean") for name in _MEANS},
    ).reset_index()
    return ranked(rows)


def ranked(rows: pd.DataFrame) -> pd.DataFrame:
    """Order rows by score; add `rank`, `rank_low` (best), `rank_high` (worst), null if unknown."""
    ordered = rows.sort_values("score", ascending=False, na_position="last", kind="stable")
    ordered = ordered.reset_index(drop=True)
    score = ordered["score"].to_numpy(dtype=float)
    low = np.where(np.isnan(ordered["score_low"]), score, ordered["score_low"])
    high = np.where(np.isnan(ordered["score_high"]), score, ordered["score_high"])
    n_known = int((~np.isnan(score)).sum())
    best = [1 + int((low > end).sum()) for end in high]
    worst = [n_known - int((high < end).sum()) for end in low]
    rank = [1 + int((score > own).sum()) for own in score]
    for name, values in (("rank", rank), ("rank_low", best), ("rank_high", worst)):
        known = [None if np.isnan(s) else v for s, v in zip(score, values, strict=True)]
        ordered[name] = pd.array(known, dtype="Int64")
    return ordered


def as_csv(rows: pd.DataFrame) -> str:
    """Return rows as CSV; text that a spreadsheet would run as a formula is prefixed with '."""
    safe = rows.copy()
    for name in safe.select_dtypes(exclude="number").columns:
        safe[name] = [csv_cell(value) for value in safe[name]]
    return safe.to_csv(index=False)


def matching(rows: pd.DataFrame, wanted: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return the rows whose columns have one of the wanted values each."""
    keep = pd.Series(True, index=rows.index)
    for column, values in wanted.items():
        keep &= rows[column].isin(list(values))
    return rows.loc[keep]
