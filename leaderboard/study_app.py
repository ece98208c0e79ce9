"""The study as a site of its own, for raters who should not see the leaderboard."""

from __future__ import annotations

import os
from pathlib import Path

from leaderboard.votes_source import RESULTS_VARIABLE

_SCRIPT = Path(__file__).with_name("study_page.py")
_SETTINGS = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "server.fileWatcherType": "none",
    "server.headless": True,
}


def serve_study(results: str | None, *, port: int, host: str) -> None:
    """Show the study of the results at http://host:port until interrupted; blocks."""
    import streamlit as st
    from starlette.middleware import Middleware

    from leaderboard.votes_web import RaterCookie, study_routes

    if results is not None:
        os.environ[RESULTS_VARIABLE] = results
    app = st.App(_SCRIPT, routes=study_routes(), middleware=[Middleware(RaterCookie)])
    app.run(config={**_SETTINGS, "server.port": port, "server.address": host})
