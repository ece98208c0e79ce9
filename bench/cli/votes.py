"""The commands `votes`: what the raters of the human study said."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click


@click.group()
def votes() -> None:
    """The votes of the human study (kept where XBENCH_VOTES says)."""


_place = click.option("--votes", "place", metavar="FILE|URL", help="Other votes.")


@votes.command("collect")
@click.argument("results", required=False)
@click.option("--port", type=click.IntRange(1, 65535), default=8502, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def collect(*, results: str | None, port: int, host: str) -> None:
    """Show raters the study of RESULTS [runs], as a site of its own."""
    (app,) = entry_points(group="xbench.apps", name="study")
    app.load()(results, port=port, host=host)


@votes.command("export")
@_place
@click.option("--study", "study_id", metavar="ID", help="Only this study.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
def export(place: str | None, study_id: str | None, out: Path) -> None:
    """Write votes.parquet and ratings.parquet."""
    counts = _book(place, "export")(out, study_id=study_id)
    click.echo(f"{counts['votes']} votes and {counts['ratings']} ratings in {out}")


@votes.command("forget")
@_place
@click.argument("rater")
def forget(place: str | None, rater: str) -> None:
    """Delete everything of RATER, the number that the study page shows a rater."""
    click.echo(f"{_book(place, 'forget')(rater)} votes and ratings deleted")


def _book(place: str | None, action: str) -> Any:
    """What is done with votes lies above the harness: it is found by name."""
    (app,) = entry_points(group="xbench.apps", name="votes")
    return getattr(app.load()(place), action)
