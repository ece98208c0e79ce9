"""What every page has: its heading, its run and plugin, and what is wrong with its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import streamlit as st

from leaderboard.data.catalog import Run
from leaderboard.data.sources import current_runs, open_tables, results_problems, shown_results
from leaderboard.data.tables import RunTables, plugins_of
from leaderboard.escape import literal
from leaderboard.ui.selection import choose_one

SHIPPED_NOTE = (
    "These results come with xbench: its tiny pocket models, 12 prompts. Your own take their place "
    "once there are some: `xbench run --manifest pocket`, or `xbench leaderboard RESULTS`."
)
NO_RUNS = "There are no results here yet. `xbench run --manifest pocket` makes some."


def heading(title: str, explanation: str) -> None:
    """The page's title with one sentence below, and what is to be said of the place of results."""
    st.title(title, anchor=False)
    st.caption(explanation)
    tell_problems(results_problems())
    if shown_results()[1]:
        st.info(SHIPPED_NOTE, icon=":material/inventory_2:")


def tell_problems(problems: Iterable[str]) -> None:
    """Say what is wrong, literally."""
    for problem in problems:
        st.warning(literal(problem), icon=":material/warning:")


def choose_run(
    label: str = "Run",
    *,
    key: str = "run",
    runs: Mapping[str, Run] | None = None,
    default: str | None = None,
) -> tuple[Run, RunTables] | None:
    """A run with its tables, at first `default` or the newest; None where there is none."""
    runs = current_runs() if runs is None else runs
    if not runs:
        st.info(NO_RUNS)
        return None
    keys = list(runs)
    chosen = choose_one(label, keys, key=key, default=default)
    return runs[chosen], open_tables(runs[chosen])


def choose_plugin() -> tuple[Run, RunTables, str] | None:
    """A run and one of its plugins, side by side; None, after saying why, where there is none."""
    left, right = st.columns(2)
    with left:
        found = choose_run()
    if found is None:
        return None
    run, tables = found
    plugins = plugins_of(tables)
    plugin = None
    with right:
        if plugins:
            plugin = choose_one("Plugin", plugins, key="plugin")
    tell_problems(tables.problems)
    if plugin is None:
        st.info("This run evaluates no plugin.")
        return None
    return run, tables, plugin
