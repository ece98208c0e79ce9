"""The web leaderboard: its pages and how one moves between them. Run by Streamlit."""

from __future__ import annotations

import streamlit as st

from leaderboard.views import overview, study

st.set_page_config(page_title="xbench", page_icon=":material/leaderboard:", layout="wide")
PAGES = [
    st.Page(overview.show, title="Overview", url_path="overview", default=True),
    st.Page(study.show, title="Study", url_path="study"),
]
st.navigation(PAGES, position="top").run()
