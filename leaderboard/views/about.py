"""About: what the words and numbers mean, the methods of the runs, and keys."""

from __future__ import annotations

import streamlit as st

from leaderboard.data import current_runs
from leaderboard.figures.site_runs import open_site_run
from leaderboard.ui import Page, page_title
from leaderboard.ui.fragments import show_fragment
from leaderboard.ui.page import NO_RUNS, show_notes
from leaderboard.web import page_parts

_MAX_RUNS = 20  # whose methods are described: the newest


def show() -> None:
    """Draw the page."""
    page_title("About")
    show_notes()
    found = current_runs()
    runs = [open_site_run(run) for run in list(found.values())[:_MAX_RUNS]]
    if not runs:
        st.info(NO_RUNS)
    show_fragment("<h1>About</h1>", page_parts(found).terms(runs))
    st.caption("Pages of this server as files for other programs: feed.xml, results.json, badges.")


PAGE = Page("About", "about", show, order=3)
