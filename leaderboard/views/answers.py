"""The answer for one plugin in words, and its settings as a table; parts of several pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import streamlit as st

from bench.analysis import answers
from bench.analysis.glossary import meaning_of, meanings_of
from bench.analysis.words import MEANINGS, WORDS, look, share, sort_text, verdict_of
from bench.store import Row
from leaderboard.data import RunTables
from leaderboard.escape import literal, one_line
from leaderboard.figures import setting_label
from leaderboard.figures.verdicts import (
    EARLIER,
    has_judged_look,
    is_earlier,
    is_judged,
    mark_of,
    settings_to_compare,
)
from leaderboard.ui import interval

HOW_SORTED = (
    "The number for sorting is the share kept times 1 - q / k, each limited to 0 to 1 (q: distance "
    "of the images' look, k: a constant of its metric; without q: the share kept alone). It orders "
    "rows and claims nothing."
)
MARKS = "*: the setting to use; =: not told from the best setting."
_BOXES = {"works": st.success, "degraded": st.warning, "open": st.warning, "lost": st.error}
_COLUMNS = {
    "mark": st.column_config.TextColumn("", width="small", help=MARKS),
    "setting": st.column_config.TextColumn(
        "Setting", help=meanings_of(["Setting", "SDEdit", "X-Adapter", "t0"])
    ),
    "verdict": st.column_config.TextColumn(
        "Verdict", help=meanings_of(["Works", "Degraded", "Lost", "Open"])
    ),
    "retention_text": st.column_config.TextColumn("Keeps [95 %]", help=meaning_of("Keeps")),
    "look": st.column_config.TextColumn("Images", help=meaning_of("Images like the new model's")),
    "quality_text": st.column_config.TextColumn(
        "Distance of the look [95 %]",
        help=f"{meaning_of('Distance of the look')} Below 0 is chance.",
    ),
    "sort_text": st.column_config.TextColumn("For sorting", help=HOW_SORTED),
    "seconds": st.column_config.NumberColumn("s/image", format="%.2f"),
}


def show_answer(tables: RunTables, rows: Sequence[Row]) -> None:
    """Write what may be claimed of a plugin; of earlier versions' tables, how to get verdicts."""
    found = answers(rows)
    if not tables.run.is_finished:
        st.info("This run is unfinished: it has no verdict yet.", icon=":material/pending:")
    elif found:
        box = _BOXES.get(found[0].word, st.info)
        box(literal(f"{found[0].sentence}."), icon=":material/extension:")
    elif is_earlier(tables):
        st.info(f"These tables were {EARLIER}.", icon=":material/history:")
    elif rows:
        st.info("Nothing to judge: this run has no method that keeps this plugin.")
    else:
        st.info("This run has no compatibility table of this plugin: `xbench report RUN` makes it.")


def show_settings(rows: Sequence[Row]) -> None:
    """Write the settings of one plugin as a table, with what the words and marks mean."""
    settings = settings_to_compare(rows)
    if not settings:
        return
    listed = [described(row) for row in settings]
    used = [name for name in _COLUMNS if any(row[name] not in ("", None) for row in listed)]
    st.dataframe(
        pd.DataFrame(listed)[used],
        hide_index=True,
        placeholder="",
        column_config=_COLUMNS,
        alt="The settings as a table",
    )
    if is_judged(settings):
        st.caption(literal(f"{MARKS} {meanings(row['verdict'] for row in settings)}"))


def described(row: Row) -> Row:
    """Return a setting's row with its texts: `setting`, `verdict`, `look`, `mark`, intervals."""
    texts = {"retention_text": share(row)}
    texts["quality_text"] = interval_of(row, "quality") if has_judged_look(row) else ""
    words = {"verdict": verdict_of(row), "look": look(row)}
    words["sort_text"] = "" if row["sort_value"] is None else sort_text(row)
    return {
        **row,
        **{name: one_line(text) for name, text in words.items()},
        **texts,
        "mark": mark_of(row),
        "setting": one_line(setting_label(row)),
    }


def interval_of(row: Row, name: str) -> str:
    """Return a number of a row with its interval, "" if it is missing."""
    if row[name] is None:
        return ""
    return interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


def meanings(verdicts: Iterable[str | None]) -> str:
    """Return what the verdicts that occur mean."""
    used = set(verdicts)
    return " ".join(f"{word}: {MEANINGS[word]}." for word in WORDS if word in used)
