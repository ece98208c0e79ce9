"""Start the web server of the leaderboard or of the study."""

from __future__ import annotations

import atexit
import gc
import os
from pathlib import Path
from threading import Thread

from leaderboard.data.sources import RESULTS_VARIABLE

_SCRIPT = "app.py"
_WARM_SECONDS = 10  # a slow remote store may take longer: the site opens anyway
_SETTINGS = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "server.fileWatcherType": "none",
    "server.headless": True,
    # limits in MB: no page accepts files or sends more than a few megabytes
    "server.maxMessageSize": 50,
    "server.maxUploadSize": 1,
    # from the palette of the charts, with enough contrast for text on each background
    "theme.dark.primaryColor": "#56B4E9",
    "theme.light.primaryColor": "#00609A",
    # captions use this color at 60 %: contrast 4.9:1 on white (Streamlit's default is below 4.5)
    "theme.light.textColor": "#111318",
}


def serve(results: str | None, *, port: int, host: str, script: str = _SCRIPT) -> None:
    """Serve the results at http://host:port until interrupted; blocks.

    `script` is the Streamlit script of this package to run.
    """
    import streamlit as st
    from starlette.middleware import Middleware

    from leaderboard.study import RaterCookie, study_routes
    from leaderboard.web import OwnOrigin, SecurityHeaders, picture_routes

    if results is not None:
        os.environ[RESULTS_VARIABLE] = results
    path = Path(__file__).with_name(script)
    app = st.App(
        path,
        routes=[*study_routes(), *picture_routes()],
        middleware=[Middleware(OwnOrigin), Middleware(SecurityHeaders), Middleware(RaterCookie)],
    )
    warming = Thread(target=warm_up, name="warm-up", daemon=True)
    warming.start()
    warming.join(_WARM_SECONDS)
    # without a server name Streamlit looks up the public IP address at an external site
    name = "localhost" if host in ("0.0.0.0", "::") else host
    where = {"server.port": port, "server.address": host, "browser.serverAddress": name}
    app.run(config={**_SETTINGS, **where})


def serve_study(results: str | None, *, port: int, host: str) -> None:
    """Serve only the study, for raters who should not see the leaderboard; blocks."""
    serve(results, port=port, host=host, script="study_page.py")


def warm_up() -> None:
    """Import all pages and read all standings before the first request.

    Streamlit collects garbage after every run of a page's script. Objects loaded here live as long
    as the server, so they are frozen out of collection (saves 100 ms of every click).
    """
    from leaderboard.data import current_runs
    from leaderboard.figures import open_standings
    from leaderboard.ui import pages

    pages()
    for run in current_runs().values():
        open_standings(run)
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # frozen objects would be reported as leaks at exit
