"""Parts of every page: heading, choice of run and plugin, problems of the runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import streamlit as st

from leaderboard.data import (
    Run,
    RunTables,
    current_runs,
    open_tables,
    plugins_of,
    results_problems,
    shown_results,
)
from leaderboard.escape import literal, one_line
from leaderboard.ui.named import choose_named
from leaderboard.ui.selection import choose_one

SHIPPED_NOTE = (
    "These example results come with xbench: its tiny pocket models. To see your own, "
    "run `xbench run --manifest pocket`, or open others with `xbench leaderboard RESULTS`."
)
NO_RUNS = "There are no results yet. To make some: `xbench run --manifest pocket`."


def page_title(title: str) -> None:
    """Set the title of the browser's window."""
    st.set_page_config(page_title=f"{one_line(title)} | xbench")


def heading(title: str, explanation: str) -> None:
    """Write the title and explanation of a page, and problems of the results location."""
    page_title(title)
    st.title(title, anchor=False)
    st.caption(explanation)
    show_notes()


def show_notes() -> None:
    """Write problems of the results location, and what the shipped results are."""
    show_problems(results_problems())
    if shown_results()[1]:
        st.info(SHIPPED_NOTE, icon=":material/inventory_2:")


def show_problems(problems: Iterable[str]) -> None:
    """Display problems as warnings, escaped."""
    for problem in problems:
        st.warning(literal(problem), icon=":material/warning:")


def choose_run(
    label: str = "Run",
    *,
    key: str = "run",
    runs: Mapping[str, Run] | None = None,
    default: str | None = None,
    is_labeled: bool = True,
) -> tuple[Run, RunTables] | None:
    """Let the reader choose a run, at first `default`, else `default_run`; None without runs."""
    runs = current_runs() if runs is None else runs
    if not runs:
        st.info(NO_RUNS)
        return None
    first = default or default_run(runs)
    names = {name: run.label for name, run in runs.items()}
    chosen = choose_named(label, names, key=key, default=first, is_labeled=is_labeled)
    return runs[chosen], open_tables(runs[chosen])


def default_run(runs: Mapping[str, Run]) -> str | None:
    """Return the run that pages open with: the newest finished one, else the newest."""
    return next((key for key, run in runs.items() if run.is_finished), next(iter(runs), None))


def choose_plugin(
    order: Callable[[Run, RunTables], list[str]] = lambda _, tables: plugins_of(tables),
) -> tuple[Run, RunTables, str] | None:
    """Let the reader choose a run and a plugin; None, with a message, if there are none.

    `order` lists a run's plugins; the first is shown at first.
    """
    plugin = None
    with st.container(key="bar", horizontal=True):
        found = choose_run(is_labeled=False)
        if found is None:
            return None
        run, tables = found
        if plugins := order(run, tables):
            plugin = choose_one("Plugin", plugins, key="plugin", is_labeled=False)
    show_problems(tables.problems)
    if plugin is None:
        st.info("This run has no plugins.")
        return None
    return run, tables, plugin
