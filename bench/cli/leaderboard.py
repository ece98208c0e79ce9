"""The commands `leaderboard` and `votes`: the web pages, and the human study on them.

Both are above the harness, so they are loaded by their entry points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from bench.cli.output import echo, echo_json, json_option
from plugins_manifest.interrupts import hangup_as_termination
from plugins_manifest.progress import Progress

_HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")

_FEW_RATERS = 4
_ALLOW_HOST = click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    envvar="XBENCH_ALLOW_HOST",
    help="Host name of this site, as browsers know it, besides localhost [repeatable].",
)


@click.command()
@click.argument("results", required=False)
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@_HOST
@_ALLOW_HOST
def leaderboard(
    *, results: str | None, port: int, host: str, allowed_hosts: tuple[str, ...]
) -> None:
    """Serve results as web pages.

    RESULTS is a folder of runs, one run, or a URL of `xbench publish` [runs]. Without RESULTS and
    without any run in runs/, the results shipped with xbench are displayed.
    """
    with hangup_as_termination(), Progress("serving", silent=True):
        _app("leaderboard")(results, port=port, host=host, allowed_hosts=allowed_hosts)


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
@_ALLOW_HOST
def collect(*, results: str | None, port: int, host: str, allowed_hosts: tuple[str, ...]) -> None:
    """Serve the study of RESULTS [runs] to raters, as a site of its own."""
    with hangup_as_termination(), Progress("serving", silent=True):
        _app("study")(results, port=port, host=host, allowed_hosts=allowed_hosts)


@votes.command("export")
@_VOTES
@click.option("--study", "study_id", metavar="ID", help="Only this study.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@json_option
def export(place: str | None, study_id: str | None, out: Path, as_json: bool) -> None:
    """Write votes.parquet and ratings.parquet."""
    counts = _app("votes")(place).export(out, study_id=study_id)
    if as_json:
        echo_json({**counts, "folder": str(out)})
        return
    skipped = f", {counts['skipped']} of them skipped questions" if counts["skipped"] else ""
    echo(f"{counts['votes']} votes and {counts['ratings']} ratings in {out}{skipped}")


@votes.command("forget")
@_VOTES
@click.argument("rater")
@json_option
def forget(place: str | None, rater: str, as_json: bool) -> None:
    """Delete all data of RATER, the number that the study page shows a rater."""
    n_deleted = _app("votes")(place).forget(rater)
    if as_json:
        echo_json({"deleted": n_deleted})
    else:
        echo(f"{n_deleted} votes and ratings deleted")


@votes.command("moderate")
@_VOTES
@click.argument("study")
@click.option("--exclude-network", "networks", multiple=True, metavar="CODE", help="Leave out.")
@click.option("--exclude-rater", "raters", multiple=True, metavar="CODE", help="Leave out.")
@click.option("--include-network", multiple=True, metavar="CODE", help="Lift its exclusion.")
@click.option("--include-rater", multiple=True, metavar="CODE", help="Lift its exclusion.")
@click.option("--reason", help="Why; stored, and written into exports.")
@click.option("--dry-run", is_flag=True, help="Only show what would change in the ranking.")
@click.option("--forget-networks", is_flag=True, help="Delete the networks of all raters instead.")
@json_option
def moderate(
    *,
    place: str | None,
    study: str,
    networks: tuple[str, ...],
    raters: tuple[str, ...],
    include_network: tuple[str, ...],
    include_rater: tuple[str, ...],
    reason: str | None,
    dry_run: bool,
    forget_networks: bool,
    as_json: bool,
) -> None:
    """List who answered STUDY; exclude raters or networks, and show what changes in the ranking.

    Exclusions are reversible: no answer is deleted. A CODE is a rater's or network's in the list
    and in exports, or its first 6 characters or more.
    """
    admin = _app("votes")(place)
    changes = [
        (kind, code, excludes)
        for kind, codes, excludes in (
            ("network", networks, True),
            ("rater", raters, True),
            ("network", include_network, False),
            ("rater", include_rater, False),
        )
        for code in codes
    ]
    if forget_networks and (changes or dry_run):
        raise click.UsageError("--forget-networks goes with no other option")
    if (networks or raters) and not (reason or "").strip():
        raise click.UsageError("an exclusion needs a --reason")
    if forget_networks:
        n_raters = admin.forget_networks(study)
        text = f"the networks of {n_raters} raters are deleted"
        echo_json({"raters": n_raters}) if as_json else echo(text)
    elif changes:
        ranks = admin.moderate(study, changes, reason=reason or "", dry_run=dry_run)
        if as_json:
            echo_json({"stored": not dry_run, "ranks": ranks})
            return
        _show_ranks(ranks)
        echo("nothing was changed (dry run)" if dry_run else "stored")
    else:
        origins = admin.origins(study)
        echo_json(origins) if as_json else _show_origins(origins)


def _show_origins(rows: Sequence[Mapping[str, Any]]) -> None:
    echo("network       raters  votes  agree on gold  first to last answer")
    for row in rows:
        times = f"{row['first']:%Y-%m-%d %H:%M} to {row['last']:%Y-%m-%d %H:%M}"
        gold = f"{row['gold_right']} of {row['gold']}"
        line = f"{row['network'] or 'unknown':12}  {len(row['raters']):6}  {row['votes']:5}  "
        counts = ("skipped", "undone")
        note = "".join(f"  {name} {row[name]}" for name in counts if row[name])
        note += f"  excluded: {row['excluded']}" if row["excluded"] else ""
        echo(f"{line}{gold:>13}  {times}{note}")
        if row["network"] is None or len(row["raters"]) <= _FEW_RATERS:
            echo(f"    raters {' '.join(row['raters'])}")


def _show_ranks(rows: Sequence[Mapping[str, Any]]) -> None:
    echo("question  raw  robust before  robust after  method")
    for row in rows:
        before, after = (
            "-" if row[f"rank_{when}"] is None else f"{row[f'rank_{when}']} ({_score(row, when)})"
            for when in ("before", "after")
        )
        method = row["method"]
        echo(f"{row['question']:8}  {row['raw']:3}  {before:>13}  {after:>12}  {method}")


def _score(row: Mapping[str, Any], when: str) -> str:
    return f"{row[f'score_{when}']:.2f}"


def _app(name: str) -> Any:
    (app,) = entry_points(group="xbench.apps", name=name)
    return app.load()
