"""Streamlit script of the leaderboard: all pages and the navigation between them."""

from __future__ import annotations

import streamlit as st

from leaderboard.ui import pages
from leaderboard.ui.address import remember_page

st.set_page_config(page_title="xbench", page_icon="📊", layout="wide")
# Streamlit writes chosen values in white on the primary color, which is bright on a dark background
TAGS = (
    "<style>[data-testid=stMultiSelectTagsContainer] [data-tag] * "
    "{ color: light-dark(#fff, #111318); }</style>"
)
st.html(TAGS)
page = st.navigation(
    [
        st.Page(page.draw, title=page.title, url_path=page.path, default=i == 0)
        for i, page in enumerate(pages())
    ],
    position="top",
)
remember_page(page.url_path)
page.run()
