"""The web leaderboard: its pages and how one moves between them. Run by Streamlit."""

from __future__ import annotations

import streamlit as st

from leaderboard.ui.address import tell_page
from leaderboard.views import compare, handover, overview, plugin, provenance, study, tradeoff

st.set_page_config(page_title="xbench", page_icon="📊", layout="wide")
# Streamlit writes chosen values in white on the primary color, which is bright on a dark background
TAGS = (
    "<style>[data-testid=stMultiSelectTagsContainer] [data-tag] * "
    "{ color: light-dark(#fff, #111318); }</style>"
)
PAGES = [
    st.Page(overview.show, title="Overview", url_path="overview", default=True),
    st.Page(tradeoff.show, title="Trade-off", url_path="tradeoff"),
    st.Page(handover.show, title="t0", url_path="t0"),
    st.Page(plugin.show, title="Plugin", url_path="plugin"),
    st.Page(compare.show, title="Compare", url_path="compare"),
    st.Page(study.show, title="Study", url_path="study"),
    st.Page(provenance.show, title="Provenance", url_path="provenance"),
]
st.html(TAGS)
page = st.navigation(PAGES, position="top")
tell_page(page.url_path)
page.run()
