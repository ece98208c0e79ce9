"""What every page has: its heading, and what is wrong with the runs it shows."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from leaderboard.plain import literal


def heading(title: str, explanation: str) -> None:
    """The page's title with one sentence below."""
    st.title(title, anchor=False)
    st.caption(explanation)


def tell_problems(problems: Iterable[str]) -> None:
    """Say what is wrong, literally."""
    for problem in problems:
        st.warning(literal(problem), icon=":material/warning:")
