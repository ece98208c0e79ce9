"""Streamlit script of a site that shows only the study."""

from __future__ import annotations

import streamlit as st

from leaderboard.views import study

st.set_page_config(page_title="Which picture is better?", layout="wide")
study.show()
