"""Start the web server of the leaderboard or of the study."""

from __future__ import annotations

import atexit
import gc
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import click
import uvicorn
from starlette.types import ASGIApp

from bench.errors import UserError
from leaderboard.data.sources import RESULTS_VARIABLE
from leaderboard.escape import quoted
from leaderboard.pictures import PictureQueue

_SCRIPT = "app.py"
_WARM_SECONDS = 10  # a slow remote store may take longer: the site opens anyway
_BACKLOG = 1024
_PING_SECONDS = 30.0
_MAX_MESSAGE_BYTES = 1 << 20  # from a browser: the state of its widgets
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


def serve(
    results: str | None,
    *,
    port: int,
    host: str,
    script: str = _SCRIPT,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serve the results at http://host:port until interrupted; blocks.

    `script` is the Streamlit script of this package to run, `allowed_hosts` are names of this site
    besides those of this machine. Raises `UserError` for a name or an address that cannot be used.
    """
    if results is not None:
        os.environ[RESULTS_VARIABLE] = results
    app = _app(script, port=port, host=host, allowed_hosts=allowed_hosts)
    with _listening(host, port) as listener:
        warming = Thread(target=warm_up, name="warm-up", daemon=True)
        warming.start()
        warming.join(_WARM_SECONDS)
        click.echo(f"The pages are at {_url(host, port)} (Ctrl-C stops the server)")
        _server(app).run(sockets=[listener])


def serve_study(
    results: str | None, *, port: int, host: str, allowed_hosts: Sequence[str] = ()
) -> None:
    """Serve only the study, for raters who should not see the leaderboard; blocks."""
    serve(results, port=port, host=host, script="study_page.py", allowed_hosts=allowed_hosts)


def _app(script: str, *, port: int, host: str, allowed_hosts: Sequence[str]) -> ASGIApp:
    """Return the pages with the routes of pictures behind all checks of a request."""
    import streamlit as st
    from starlette.middleware import Middleware
    from streamlit.web import bootstrap

    from leaderboard.study import RaterCookie, study_routes
    from leaderboard.web import (
        KnownHosts,
        OwnOrigin,
        SecurityHeaders,
        picture_routes,
        site_routes,
    )

    queue = PictureQueue()
    own = site_routes(queue) if script == _SCRIPT else []  # raters of a study see no results
    app = st.App(
        Path(__file__).with_name(script),
        routes=[*study_routes(queue), *picture_routes(queue), *own],
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(KnownHosts, bound=host, allowed=_checked(allowed_hosts)),
            Middleware(OwnOrigin),
            Middleware(RaterCookie),
        ],
    )
    # without a server name Streamlit looks up the public IP address at an external site
    where = {"server.port": port, "server.address": host, "browser.serverAddress": _name(host)}
    bootstrap.load_config_options({**_SETTINGS, **where})
    return app


def _server(app: ASGIApp) -> uvicorn.Server:
    """Return the web server: as Streamlit's, with bounds on connections, headers and messages."""
    from leaderboard.web import TimedConnection
    from leaderboard.web.connections import MAX_CONNECTIONS, MAX_HEADER_BYTES

    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=TimedConnection,
            ws="websockets-sansio",
            ws_max_size=_MAX_MESSAGE_BYTES,
            ws_ping_interval=_PING_SECONDS,
            ws_ping_timeout=_PING_SECONDS,
            ws_per_message_deflate=False,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            limit_concurrency=MAX_CONNECTIONS,
            access_log=False,
            use_colors=False,
        )
    )


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UserError(
            f"{host}:{port} cannot be used ({error.strerror or error}): choose another --port or "
            "--host"
        ) from error
    with listener:
        listener.setblocking(False)
        yield listener


def _checked(names: Sequence[str]) -> list[str]:
    from leaderboard.web import host_name

    for name in names:
        try:
            host_name(name)
        except ValueError as error:
            raise UserError(
                f"--allow-host {quoted(name)} is not a host name: give it without scheme, port and "
                "path, such as bench.example.org"
            ) from error
    return list(names)


def _name(host: str) -> str:
    return "localhost" if host in ("0.0.0.0", "::") else host


def _url(host: str, port: int) -> str:
    name = _name(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def warm_up() -> None:
    """Import all pages and read all standings before the first request.

    Streamlit collects garbage after every run of a page's script. Objects loaded here live as long
    as the server, so they are frozen out of collection (saves 100 ms of every click).
    """
    from leaderboard.data import current_runs
    from leaderboard.figures import open_standings
    from leaderboard.figures.site_runs import open_site_run
    from leaderboard.ui import pages

    pages()
    for run in current_runs().values():
        open_standings(run)
        open_site_run(run)
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # frozen objects would be reported as leaks at exit
