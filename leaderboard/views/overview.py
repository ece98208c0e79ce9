"""Overview: methods and adapters ranked by compatibility score."""

from __future__ import annotations

import io

import pandas as pd
import streamlit as st

from leaderboard.page import heading, tell_problems
from leaderboard.plain import literal
from leaderboard.selection import choose_some
from leaderboard.sources import current_runs, open_tables
from leaderboard.standings import matching, method_rows, plugin_rows, ranked

_FILTERS = {
    "family": "Family",
    "kind": "Plugin kind",
    "condition": "Condition",
    "license": "License",
    "adapter": "Adapter version",
    "method": "Method",
}


def show() -> None:
    """The page."""
    heading(
        "Do plugins survive the upgrade?",
        "Compatibility: how much of a plugin's effect and of the upgrade's quality a method keeps.",
    )
    frames = []
    for run in current_runs().values():
        tables = open_tables(run)
        tell_problems(f"{run.key}: {problem}" for problem in tables.problems)
        frames.append(plugin_rows(run, tables))
    rows = pd.concat([f for f in frames if not f.empty] or frames[:1] or [pd.DataFrame()])
    if rows.empty:
        st.info("No run here has a compatibility table. `xbench report RUN` makes one.")
        return
    _tables(_filtered(rows))


def _filtered(rows: pd.DataFrame) -> pd.DataFrame:
    with st.expander("Filters", icon=":material/filter_list:"):
        wanted = {}
        for column, label in _FILTERS.items():
            options = sorted(set(rows[column]))
            if len(options) > 1:
                wanted[column] = choose_some(label, options, key=column)
    return matching(rows, wanted)


def _tables(rows: pd.DataFrame) -> None:
    st.subheader("Methods", anchor=False)
    st.dataframe(method_rows(rows), hide_index=True, alt="Methods ranked by compatibility score")
    st.subheader("Plugins", anchor=False)
    plugins = ranked(rows)
    st.dataframe(plugins, hide_index=True, alt="Plugins ranked by compatibility score")
    _downloads(plugins)


def _downloads(plugins: pd.DataFrame) -> None:
    parquet = io.BytesIO()
    plugins.to_parquet(parquet, index=False)
    left, right = st.columns(2)
    left.download_button("Download CSV", plugins.to_csv(index=False), "compatibility.csv")
    right.download_button("Download Parquet", parquet.getvalue(), "compatibility.parquet")
    st.caption(literal(f"{len(plugins)} rows"))
