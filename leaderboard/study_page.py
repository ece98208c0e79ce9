"""Streamlit script of a site that shows only the study."""

from __future__ import annotations

import streamlit as st

from leaderboard.views import study

st.set_page_config(page_title="Which picture is better?", layout="wide")
# raters need no toolbar: its place is for the pictures
st.html(
    "<style>[data-testid=stHeader] { display: none; } "
    "[data-testid=stMainBlockContainer] { padding-top: 1.5rem; }</style>"
)
study.show()
