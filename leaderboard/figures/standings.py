"""Rank methods and mappers by the share of the plugins' effects that they keep.

Ranks are within a family: an easier upgrade is not a better method. The number is the mean over the
plugins that the family's runs have in common, and over the t0 of a row, of retention clipped to
0..1. Quality and the choice of a setting are not in it: their noise would let a damaged mapper
outrank a better one.

A rank interval contains the ranks that are compatible with the intervals of the numbers: a row
ranks below all rows whose interval is entirely above its own, and above those entirely below
(ours). A row without an interval may have any rank, and leaves those of the others open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.store import PUBLISHED, Row
from bench.store.recent import RecentItems
from leaderboard.data import Run, RunTables, open_tables
from leaderboard.data.catalog import text_of
from leaderboard.data.isolation import isolated
from leaderboard.escape import csv_cell
from leaderboard.figures.verdicts import (
    EARLIER,
    compatibility_of,
    is_judged,
    method_rows_of,
    verdict_counts,
)

_RANKS = ("rank", "rank_low", "rank_high", "rank_reason")
_ENDS = ("", "_low", "_high")
PLUGIN_COLUMNS = (
    *(*_RANKS, "run", "family", "adapter", "plugin", "kind", "condition", "license"),
    *("word", "answer", "method", "t0", "plugin_scale", "adapter_scale"),
    *("verdict", "verdict_p", "verdict_more_prompts", "verdict_reason", "status", "reason"),
    *("function_metric", "function_better", *(f"function{end}" for end in _ENDS)),
    *(f"retention{end}" for end in _ENDS),
    *("quality_metric", "quality_reference", *(f"quality{end}" for end in _ENDS)),
    *("quality_word", "quality_more_prompts", "quality_reason"),
    *(f"place{end}" for end in _ENDS),
    *(*(f"sort_value{end}" for end in _ENDS), "sort_reason"),
    *(*(f"kept{end}" for end in _ENDS), "kept_t0s"),
    *("recommended", "choice_reason", "note", "n", "n_prompts", "seconds", "recipe"),
)
_RUN_COLUMNS = [name for name in PLUGIN_COLUMNS if name not in _RANKS]
_KEYS = ["run", "family", "adapter", "method"]
_TYPES = {"double": "float64", "int64": "Int64", "bool": "boolean", "string": "object"}
_Standings = tuple[pd.DataFrame, tuple[str, ...]]  # rows, problems
_STANDINGS = RecentItems[tuple[str, int], _Standings](1000)  # by folder and stamp


def open_standings(run: Run) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a run's rows for the overview, and its problems; cached while the run is unchanged.

    An unfinished run has no rows: it ranks nowhere, and its tables are not opened. Many runs are
    ranked without keeping the tables of all of them open.
    """
    if not run.is_finished:
        return _frame([]), run.problems
    place = (str(run.folder), run.stamp)
    known = _STANDINGS.find(place)
    if known is not None:
        return known
    tables = open_tables(run)
    found = isolated(
        lambda: (plugin_rows(run, tables), tuple(tables.problems)),
        lambda line: (_frame([]), (*tables.problems, line)),
        run=run.key,
    )
    # a table that cannot be read may be readable the next time
    return _STANDINGS.add(place, found) if found[1] == run.problems else found


def plugin_rows(run: Run, tables: RunTables) -> pd.DataFrame:
    """Return one row per plugin and method of a run, worst plugin first.

    `word` and `answer` are the plugin's, `condition` and `license` those of its manifest entry;
    `note` is why numbers are missing.
    """
    rows = compatibility_of(tables)
    judged = is_judged(rows)
    listed = [row | {"note": _note(row, judged=judged)} for row in method_rows_of(rows)]
    found = _frame(listed)
    entries = manifest_plugins(run.manifest)
    for column in ("condition", "license"):
        found[column] = [text_of(entries.get(name, {}).get(column)) for name in found["plugin"]]
    found["run"], found["family"] = run.key, run.family
    # of several adapters of a run each row names its own
    found["adapter"] = [own or run.adapter for own in found["adapter"]]
    return found


def _frame(listed: Sequence[Row]) -> pd.DataFrame:
    """Return rows with the types of the schema, also where a column has no value."""
    rows = pd.DataFrame(list(listed), columns=_RUN_COLUMNS)
    kinds = {c.name: _TYPES[str(c.type)] for c in PUBLISHED["compatibility"] if c.name in rows}
    return rows.astype({**dict.fromkeys(rows.columns, "object"), **kinds})


def _note(row: Row, *, judged: bool) -> str | None:
    if not judged:
        return EARLIER
    return row["choice_reason"] or row["reason"] or row["sort_reason"]


def manifest_plugins(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the plugins of a manifest by id; invalid entries are left out."""
    plugins = manifest.get("plugins")
    found = plugins if isinstance(plugins, list) else []
    return {
        entry["id"]: entry
        for entry in found
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    }


def by_family(plugins: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the rows of each family, in which methods are ranked."""
    return [part for _, part in plugins.groupby("family", dropna=False, sort=False)]


def common_plugins(plugins: pd.DataFrame) -> list[str]:
    """Return the plugins that a family's ranks are over: those that all of its runs have.

    A run has a plugin if most of its methods do: one that is for few plugins, as `converted` is,
    has no rank beside the others, instead of taking plugins from their ranks.

    A plugin without any number is not among them, nor are rows without any (earlier versions).
    """
    numbered = plugins.loc[plugins["kept"].notna()]
    of_runs: dict[str, list[set[str]]] = {}
    for _, part in plugins.groupby(_KEYS, dropna=False, sort=False):
        if _has_numbers(part):
            of_runs.setdefault(part["run"].iloc[0], []).append(set(part["plugin"]))
    sets = [_of_most(found) for found in of_runs.values()]
    return sorted(set.intersection(*sets) & set(numbered["plugin"])) if sets else []


def _of_most(sets: Sequence[set[str]]) -> set[str]:
    """Return what more than half of the sets have."""
    counts = Counter(name for found in sets for name in found)
    return {name for name, n in counts.items() if 2 * n > len(sets)}


def method_rows(plugins: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each run and method, ranked in its family by means over the common plugins.

    The interval is the mean of the plugins' bounds: never too narrow, whatever the dependence
    between them; none where a plugin has none. A row that lacks a number for a common plugin has
    no rank, and `rank_reason` says why.
    """
    return pd.concat([_ranked_family(part) for part in by_family(plugins)], ignore_index=True)


def _ranked_family(plugins: pd.DataFrame) -> pd.DataFrame:
    common, t0s = common_plugins(plugins), common_t0s(plugins)
    groups = plugins.groupby(_KEYS, dropna=False, sort=False)
    rows = [
        dict(zip(_KEYS, key, strict=True)) | _mean_row(part, common, t0s)
        for key, part in groups
        if isinstance(key, tuple)
    ]
    return ranked(pd.DataFrame(rows))


def _mean_row(part: pd.DataFrame, common: Sequence[str], t0s: str | None) -> Row:
    judged = part.loc[part["note"] != EARLIER]
    counts = {"n_plugins": len(part), "verdicts": verdict_counts(judged["verdict"])}
    own = part.loc[part["plugin"].isin(list(common))]
    reason = _why_unranked(part, own, common, t0s)
    names = [f"kept{end}" for end in _ENDS]
    means = own[names].astype(float).mean(skipna=False)
    if reason is not None:
        means[names] = np.nan
    seconds = own["seconds"].astype(float).mean()
    return {**counts, **means.to_dict(), "seconds": seconds, "rank_reason": reason}


def common_t0s(plugins: pd.DataFrame) -> str | None:
    """Return the t0 of most rows with a number: means over other t0 are not comparable to theirs.

    Of equally frequent ones the longest; None without any.
    """
    grids = plugins.loc[plugins["kept"].notna(), "kept_t0s"].dropna()
    counts = grids[grids != ""].value_counts()
    return max(counts.index, key=lambda grid: (counts[grid], len(grid), grid), default=None)


def _why_unranked(
    part: pd.DataFrame, own: pd.DataFrame, common: Sequence[str], t0s: str | None
) -> str | None:
    """Return why a run's method has no rank; None if it has a number for each common plugin."""
    if not _has_numbers(part):
        notes = part["note"].dropna()
        return notes.iloc[0] if len(notes) else "no plugin has a number"
    lacking = own.loc[own["kept"].isna()]
    if len(lacking):
        first = lacking.iloc[0]
        return f"no number for {first['plugin']}: {text_of(first['note']) or 'not measured'}"
    if own.empty:
        return "no plugin in common with all other rows"
    absent = sorted(set(common) - set(own["plugin"]))
    if absent:
        return f"it was not run with {absent[0]}, as most methods were"
    others = sorted(set(own["kept_t0s"].dropna()) - {"", t0s})
    return f"measured at t0 {others[0]}, most rows at {t0s}" if others else None


def _has_numbers(part: pd.DataFrame) -> bool:
    return bool(part["kept"].notna().any())


def ranked(rows: pd.DataFrame) -> pd.DataFrame:
    """Order rows by number; add `rank`, `rank_low` (best), `rank_high` (worst), null if unknown."""
    ordered = rows.sort_values("kept", ascending=False, na_position="last", kind="stable")
    ordered = ordered.reset_index(drop=True)
    value, low, high = (ordered[f"kept{end}"].to_numpy(dtype=float) for end in _ENDS)
    is_known = ~np.isnan(value)
    has_ends = is_known & ~np.isnan(low) & ~np.isnan(high)
    low, high = np.where(has_ends, low, -np.inf), np.where(has_ends, high, np.inf)
    n_known = int(is_known.sum())
    best = [1 + int((low[is_known] > end).sum()) for end in high]
    worst = [n_known - int((high[is_known] < end).sum()) for end in low]
    rank = [1 + int((value > own).sum()) for own in value]
    for name, values, known in (
        ("rank", rank, is_known),
        ("rank_low", best, has_ends),
        ("rank_high", worst, has_ends),
    ):
        shown = [v if k else None for v, k in zip(values, known, strict=True)]
        ordered[name] = pd.array(shown, dtype="Int64")
    return ordered


def with_ranks(plugins: pd.DataFrame, methods: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of plugins with the ranks of their runs' methods, for export."""
    ranks = methods[[*_KEYS, *_RANKS]]
    return plugins.merge(ranks, on=_KEYS, how="left").reindex(columns=list(PLUGIN_COLUMNS))


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
