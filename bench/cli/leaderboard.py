"""The command `leaderboard`: the web pages over result files."""

from __future__ import annotations

from importlib.metadata import entry_points

import click


@click.command()
@click.argument("results", required=False)
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def leaderboard(*, results: str | None, port: int, host: str) -> None:
    """Show RESULTS as web pages: a folder of runs, one run, or a URL of `xbench publish` [runs].

    Without RESULTS and without any run in runs/, the results that come with xbench are shown.
    """
    # the pages lie above the harness: they are found by name, like every extension
    (app,) = entry_points(group="xbench.apps", name="leaderboard")
    app.load()(results, port=port, host=host)
