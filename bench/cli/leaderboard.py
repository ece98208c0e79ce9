"""The commands `leaderboard` and `votes`: the web pages, and the human study on them.

Both are above the harness, so they are loaded by their entry points.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from bench.cli.output import echo
from plugins_manifest.interrupts import hangup_as_termination

_HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")


@click.command()
@click.argument("results", required=False)
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@_HOST
def leaderboard(*, results: str | None, port: int, host: str) -> None:
    """Serve results as web pages.

    RESULTS is a folder of runs, one run, or a URL of `xbench publish` [runs]. Without RESULTS and
    without any run in runs/, the results shipped with xbench are displayed.
    """
    with hangup_as_termination():
        _app("leaderboard")(results, port=port, host=host)


@click.group()
def votes() -> None:
    """Collect and export the votes of the human study.

    They are stored in the file or database that XBENCH_VOTES names.
    """


_VOTES = click.option("--votes", "place", metavar="FILE|URL", help="Other votes.")


@votes.command("collect")
@click.argument("results", required=False)
@click.option("--port", type=click.IntRange(1, 65535), default=8502, show_default=True)
@_HOST
def collect(*, results: str | None, port: int, host: str) -> None:
    """Serve the study of RESULTS [runs] to raters, as a site of its own."""
    with hangup_as_termination():
        _app("study")(results, port=port, host=host)


@votes.command("export")
@_VOTES
@click.option("--study", "study_id", metavar="ID", help="Only this study.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
def export(place: str | None, study_id: str | None, out: Path) -> None:
    """Write votes.parquet and ratings.parquet."""
    counts = _app("votes")(place).export(out, study_id=study_id)
    echo(f"{counts['votes']} votes and {counts['ratings']} ratings in {out}")


@votes.command("forget")
@_VOTES
@click.argument("rater")
def forget(place: str | None, rater: str) -> None:
    """Delete all data of RATER, the number that the study page shows a rater."""
    echo(f"{_app('votes')(place).forget(rater)} votes and ratings deleted")


def _app(name: str) -> Any:
    (app,) = entry_points(group="xbench.apps", name=name)
    return app.load()
