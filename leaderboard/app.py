"""Streamlit script of the leaderboard: all pages and the navigation between them."""

from __future__ import annotations

import streamlit as st

from leaderboard.ui import page_title, pages
from leaderboard.ui.address import remember_page
from leaderboard.ui.fragments import show_style

st.set_page_config(page_title="xbench", page_icon="📊", layout="wide")
show_style()
page = st.navigation(
    [
        st.Page(
            page.draw,
            title=page.title,
            url_path=page.path,
            default=i == 0,
            visibility="visible" if page.is_listed else "hidden",
        )
        for i, page in enumerate(pages())
    ],
    position="top",
)
page_title(page.title)
remember_page(page.url_path)
page.run()
