"""A run's compatibility table as `bench.analysis.words` reads it.

The words, their order and the advice are made there; here the untrusted table is brought into that
form. Tables of earlier versions have no verdicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import get_args

from bench.analysis import Answer, answers
from bench.analysis.words import REFERENCES, WORDS, in_order, row_line, share, verdict_of
from bench.report.styles import method_order
from bench.store import Row, grouped
from leaderboard.data import RunTables
from leaderboard.figures.arms import setting_label
from metrics.stats.intervals import MIN_PROMPTS
from metrics.stats.verdicts import QualityWord, Word

EARLIER = "made by an earlier version: run `xbench report RUN` for verdicts"
_KNOWN: Mapping[str, tuple[str, ...]] = {
    "verdict": get_args(Word),
    "quality_word": get_args(QualityWord),
    "quality_reference": ("segment", "floor"),
    "status": ("measured", "no effect", "not measured"),
}
_NAMES = ("plugin", "kind", "method")
_ESTIMATES = ("function", "retention", "quality", "place", "sort_value", "kept")


def compatibility_of(tables: RunTables, *plugins: str) -> list[Row]:
    """Return the rows of all settings and methods, of some plugins or of all.

    Unknown words and numbers that are not finite are None, missing names "".
    """
    rows = tables.rows(
        "SELECT * FROM compatibility WHERE level IN ('setting', 'method') AND "
        "($every OR list_contains($plugins, coalesce(plugin, ''))) ORDER BY ALL",
        {"every": not plugins, "plugins": list(plugins)},
    )
    return [_cleaned(row) for row in rows]


def is_judged(rows: Iterable[Row]) -> bool:
    """Return whether the rows have verdicts: those of earlier versions have none."""
    return any(row["verdict"] is not None for row in rows)


def is_earlier(tables: RunTables) -> bool:
    """Return whether a run has a compatibility table, of a version without verdicts."""
    rows = tables.rows("SELECT DISTINCT verdict FROM compatibility")
    return bool(rows) and not any(row["verdict"] in _KNOWN["verdict"] for row in rows)


def has_judged_look(row: Row) -> bool:
    """Return whether a setting's distance of quality says what its images look like.

    Without a native plugin, the distance of a style plugin counts the style as a loss.
    """
    has_word = row["quality_word"] is not None or row["quality_reference"] == "segment"
    return has_word and row["quality"] is not None


def settings_to_compare(rows: Sequence[Row]) -> list[Row]:
    """Return the settings of one plugin in the order of `in_order`, without references."""
    return in_order(row for row in rows if row["level"] == "setting")


def method_rows_of(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of methods, worst plugin first, with `word` and `answer` of the plugin.

    `verdict` of a method without a setting to use is "lost" where all its settings are.
    """
    found = {answer.plugin: answer for answer in answers(rows)}
    own = [row for row in rows if row["level"] == "method" and row["method"] not in REFERENCES]
    plugins = [*found, *dict.fromkeys(row["plugin"] for row in own if row["plugin"] not in found)]
    of_settings = (row for row in rows if row["level"] == "setting")
    settings = grouped(of_settings, "plugin", "method", "adapter")
    listed = []
    for plugin in plugins:
        for row in in_order(row for row in own if row["plugin"] == plugin):
            arms = settings.get((plugin, row["method"], row["adapter"]), [])
            own_row = row if found else _on_all_prompts(row, arms)
            cells = _answer_cells(found.get(plugin)) | _verdict_cells(row, arms)
            listed.append({**own_row, **cells})
    return listed


def mark_of(row: Row) -> str:
    """Return "*" for the setting to use, "=" for one that is not told from the best, else ""."""
    return "*" if row["recommended"] else "=" if row["among_best"] else ""


def verdict_counts(verdicts: Iterable[str | None]) -> str:
    """Return how often each verdict occurs, worst first: '1 lost, 2 works'."""
    counts = Counter(verdict if verdict in WORDS else None for verdict in verdicts)
    parts = [f"{counts[word]} {word}" for word in WORDS if counts[word]]
    without = [f"{counts[None]} without a setting to use"] if counts[None] else []
    return ", ".join(parts + without)


def retention_rows(rows: Sequence[Row]) -> list[Row]:
    """Return retention over t0 of one plugin's settings as rows of a curve, references too."""
    curve = [
        {
            **{name: row[name] for name in ("t0", "plugin_scale", "adapter_scale")},
            "method": row_line(row),
            **{"value": row["retention"], "verdict": verdict_of(row), "share": share(row)},
            **{"low": row["retention_low"], "high": row["retention_high"]},
            **{"label": setting_label(row), "line": setting_label({**row, "t0": None})},
        }
        for row in rows
        if row["level"] == "setting" and row["retention"] is not None
    ]
    places = {name: i for i, name in enumerate(method_order(row["method"] for row in curve))}
    return sorted(curve, key=lambda row: (places[row["method"]], row["line"], row["t0"] or 0))


def _on_all_prompts(row: Row, settings: Sequence[Row]) -> Row:
    """Return an earlier version's row of a method, measured on all prompts instead of half."""
    knobs = ("t0", "plugin_scale", "adapter_scale")
    same = [s for s in settings if all(s[name] == row[name] for name in knobs)]
    return {**same[0], "level": "method"} if same else row


def _answer_cells(answer: Answer | None) -> Row:
    if answer is None:
        return {"word": None, "answer": None}
    return {"word": answer.word, "answer": answer.sentence}


def _verdict_cells(row: Row, settings: Sequence[Row]) -> Row:
    if row["verdict"] is None and settings and all(s["verdict"] == "lost" for s in settings):
        return {"verdict": "lost"}
    return {}


def _cleaned(row: Row) -> Row:
    found = {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in row.items()}
    found |= {name: found[name] or "" for name in _NAMES}
    found |= {k: found[k] if found[k] in known else None for k, known in _KNOWN.items()}
    if found["verdict"] is None:  # nothing is to be used that was not judged
        found |= {"recommended": None, "among_best": None}
    few = found["n_prompts"] is not None and found["n_prompts"] < MIN_PROMPTS
    for name in _ESTIMATES:
        low, high = found[f"{name}_low"], found[f"{name}_high"]
        if few or low == high:  # earlier versions wrote intervals of few prompts and of no width
            found |= {f"{name}_low": None, f"{name}_high": None}
    return found
