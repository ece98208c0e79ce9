"""The matrix of a comparison as plain values for its template: lines by runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.analysis.glossary import method_name
from bench.analysis.numbers import number
from bench.analysis.summary import arm_of
from bench.analysis.words import DifferenceWord, method_word, share, short_verdict
from bench.publish.select import is_finished
from bench.report import with_ends
from bench.site.rendering import drawing
from bench.site.views import detail, verdict
from bench.store import Row, grouped
from leaderboard.data import Run, open_tables
from leaderboard.data.catalog import text_of
from leaderboard.figures.differences import Comparison, Line, intervals
from leaderboard.figures.pairs import KNOBS, Choice
from leaderboard.figures.verdicts import compatibility_of

View = dict[str, Any]
_LOOKS: Mapping[DifferenceWord, tuple[str, str]] = {
    "worse": ("\u25bc", "is-lost"),
    "better": ("\u25b2", "is-works"),
    "not told apart": ("\u2248", "is-open"),
    "not tested": ("\u00b7", "is-open"),
}
_HALF_PX, _HEIGHT_PX = 60.0, 14.0  # half of a drawn difference, and its height


def matrix(
    baseline: Run,
    candidates: Sequence[Run],
    comparison: Comparison,
    lines: Sequence[Line],
    plugin_link: Callable[[str, str], str],
) -> View:
    """Return the view of some lines: the baseline's column first, then a column for each run.

    `plugin_link` returns the address of a plugin's page of a run.
    """
    plugins = list(dict.fromkeys(str(line[0] or "") for line in lines))
    runs = (baseline, *candidates)
    choice = comparison.choice
    verdicts = {run.key: _verdicts(run, plugins, choice) for run in runs}
    cells = shown_cells(baseline, candidates, comparison, lines)
    reach = max((_reach(row) for by_run in cells.values() for row in by_run.values()), default=0)
    rows = []
    for line in lines:
        own = [
            {
                "verdict": _verdict_of(line, verdicts[run.key]),
                "difference": _difference(cells[line].get(run.key), reach),
            }
            for run in runs
        ]
        name = comparison.name_of(line)
        link = plugin_link(baseline.key, str(line[0] or ""))
        rows.append({"name": name, "href": link, "cells": own})
    return {
        "method": method_name(choice.method),
        "runs": [_head(run, comparison) for run in runs],
        "rows": rows,
    }


def shown_cells(
    baseline: Run, candidates: Sequence[Run], comparison: Comparison, lines: Sequence[Line]
) -> dict[Line, dict[str, Row]]:
    """Return the rows of some lines with their intervals: `low`, `high`, `reason`."""
    plugins = sorted({str(line[0] or "") for line in lines})
    found: dict[Line, dict[str, Row]] = {line: {} for line in lines}
    for run in candidates:
        if run.key not in comparison.compared:
            continue
        estimates = intervals(baseline, run, comparison.choice, plugins)
        for line in lines:
            row, estimate = comparison.cells[line].get(run.key), estimates.get(line)
            if row is not None and estimate is not None:
                ends = {"low": estimate.low, "high": estimate.high, "reason": estimate.reason}
                found[line][run.key] = {**row, **ends}
    return found


def difference_text(row: Row) -> str:
    """Return a difference with its interval: -0.20 [-0.25, -0.15]."""
    ends = (row["low"], row["high"])
    return with_ends(row["value"], ends, digits=2, small_digits=1, signed=True)


def p_text(row: Row) -> str:
    """Return Holm's p; a p that tells nothing apart is a lower bound."""
    if row["p"] is None:
        return ""
    return number(row["p"], digits=2, small_digits=1) if row["p"] <= 0.05 else "over 0.05"


def _head(run: Run, comparison: Comparison) -> View:
    facts = [f"adapter {run.adapter}" if run.adapter else ""]
    facts.append(text_of(run.facts.get("created"))[:10])
    is_baseline = run.key == comparison.baseline
    return {
        "name": run.key,
        "role": "baseline" if is_baseline else "",
        "facts": ", ".join(fact for fact in facts if fact),
        "is_finished": is_finished(run.facts),
        "is_baseline": is_baseline,
    }


def _verdicts(run: Run, plugins: Sequence[str], choice: Choice) -> dict[Line, View]:
    """Return the verdicts of a method by plugin, or by setting; none of an unfinished run."""
    if not plugins or not is_finished(run.facts):
        return {}
    rows = compatibility_of(open_tables(run), *plugins)
    rows = [row for row in rows if row["method"] == choice.method]
    levels = grouped(rows, "level")
    settings = grouped(levels.get(("setting",), []), "plugin")
    found: dict[Line, View] = {}
    for row in levels.get(("setting" if choice.by_setting else "method",), []):
        own = settings.get((row["plugin"],), [])
        if row["verdict"] is None and not any(r["verdict"] for r in own):
            continue  # a reference, or of an earlier version
        word = row["verdict"] or method_word(row, own)
        knobs = (row[name] for name in (KNOBS if choice.by_setting else ("adapter",)))
        found[(row["plugin"], *knobs)] = {
            **verdict(word),
            "verdict": short_verdict(row) or word,
            "share": share(row),
            "detail": "" if choice.by_setting else detail(arm_of(row)),
        }
    return found


def _verdict_of(line: Line, verdicts: Mapping[Line, View]) -> View | None:
    """Return a line's verdict: of its adapter, or of the single one of a run."""
    plugin, _, *knobs = line
    return verdicts.get((plugin, *knobs)) or verdicts.get((plugin, *knobs[:-1], None))


def _difference(row: Row | None, reach: float) -> View | None:
    if row is None:
        return None
    icon, look = _LOOKS[row["word"]]
    text = difference_text(row)
    places = {
        name: None if row[name] is None or not reach else round(_HALF_PX * row[name] / reach, 1)
        for name in ("value", "low", "high")
    }
    image = drawing("difference", mark=places, half=_HALF_PX, height=_HEIGHT_PX)
    notes = [f"{row['n']:,} images of {row['n_prompts']:,} prompts", row["reason"] or ""]
    notes.append(f"Holm's p {p_text(row)}" if row["p"] is not None else "")
    return {
        "word": row["word"],
        "icon": icon,
        "class": look,
        "text": text,
        "image": image if reach else None,
        "note": "; ".join(note for note in notes if note),
    }


def _reach(row: Row) -> float:
    return max(abs(row[name]) for name in ("value", "low", "high") if row[name] is not None)
