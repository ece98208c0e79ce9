"""Start one of the sites of this package on this machine."""

from __future__ import annotations

import atexit
import gc
import os
from pathlib import Path
from threading import Thread

from leaderboard.data.sources import RESULTS_VARIABLE

_SCRIPT = "app.py"
_WARM_SECONDS = 10  # a far place may take longer: the site opens all the same
_SETTINGS = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "server.fileWatcherType": "none",
    "server.headless": True,
    # what one browser may send at once, and be sent: no page takes files, none holds megabytes
    "server.maxMessageSize": 50,
    "server.maxUploadSize": 1,
    # of the palette of the charts; bright enough for text on each background
    "theme.dark.primaryColor": "#56B4E9",
    "theme.light.primaryColor": "#00609A",
    # captions are this at 60 %: 4.9 to 1 on white, Streamlit's own gray is below 4.5
    "theme.light.textColor": "#111318",
}


def serve(results: str | None, *, port: int, host: str, script: str = _SCRIPT) -> None:
    """Show the results at http://host:port until interrupted; blocks.

    `script` is the file of this package that Streamlit runs.
    """
    import streamlit as st
    from starlette.middleware import Middleware

    from leaderboard.study.web import RaterCookie, study_routes
    from leaderboard.web.headers import SecurityHeaders
    from leaderboard.web.origin import OwnOrigin
    from leaderboard.web.pictures import picture_routes

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
    # without a name to show, Streamlit asks another site for this machine's public address
    name = "localhost" if host in ("0.0.0.0", "::") else host
    where = {"server.port": port, "server.address": host, "browser.serverAddress": name}
    app.run(config={**_SETTINGS, **where})


def serve_study(results: str | None, *, port: int, host: str) -> None:
    """Show only the study, for raters who should not see the leaderboard; blocks."""
    serve(results, port=port, host=host, script="study_page.py")


def warm_up() -> None:
    """Load what the first page needs, so that its reader does not wait for it.

    Streamlit collects garbage after every run of a page's script: what is loaded here stays as long
    as the server, and is not looked through each time again (100 ms of every click).
    """
    from leaderboard.data.sources import current_runs
    from leaderboard.figures.standings import open_standings
    from leaderboard.ui.pages import pages

    pages()
    for run in current_runs().values():
        open_standings(run)
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # or libraries tell of leaks at the end
