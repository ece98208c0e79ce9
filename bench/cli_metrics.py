"""The commands about metrics: what there is, whether it is right, and the weights that it wants."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from plugins_manifest.errors import UserError

_LEVELS = {"image": "A number for each image", "group": "A number for each set of images"}
_NEEDY = "Want weights that are not here; `xbench metrics fetch WEIGHTS` gets them, nothing else"


@click.group()
def metrics() -> None:
    """The questions that are asked about images."""


@metrics.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_metrics(as_json: bool) -> None:
    """List the installed metrics: name, better direction, question, weights."""
    from bench.registry import installed, load_entry
    from metrics.base import describe

    facts = [describe(load_entry("metrics", name)()) for name in sorted(installed("metrics"))]
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for level, title in _LEVELS.items():
        _show(title, [f for f in facts if f["level"] == level and not f["unavailable"]])
    _show(_NEEDY, [fact for fact in facts if fact["unavailable"]], with_needs=True)


def _show(title: str, facts: Sequence[dict[str, Any]], *, with_needs: bool = False) -> None:
    if not facts:
        return
    click.echo(f"{title}:")
    for fact in facts:
        needs = f"  [{', '.join(fact['needs'])}]" if with_needs else ""
        question = fact["summary"][0].upper() + fact["summary"][1:]
        click.echo(f"  {fact['name']:<19} {fact['better']:<7} {question}{needs}")


@metrics.command("selftest")
@click.argument("names", metavar="[METRIC]...", nargs=-1)
def selftest_metrics(names: Sequence[str]) -> None:
    """Check that known inputs give known values; exit code 1 where one does not.

    Metrics whose weights are not here are told, and fail only where they are named.
    """
    from bench.judge import selftests

    n_wrong = 0
    for name, state, problem in selftests(names or None):
        click.echo(f"{name:<19} {problem or 'ok'}")
        n_wrong += state == "wrong" or (state == "unavailable" and bool(names))
    if n_wrong:
        sys.exit(1)


@metrics.command("fetch")
@click.argument("names", metavar="WEIGHTS...", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Only list what can be fetched.")
def fetch_metric_weights(names: Sequence[str], only_list: bool) -> None:
    """Download the weights of metrics; no other command does.

    WEIGHTS are names of `xbench metrics list`; the files go to XBENCH_METRIC_WEIGHTS.
    """
    from metrics.base import MetricUnavailableError
    from metrics.weight_catalog import CATALOG
    from metrics.weight_fetch import fetch_weights, find_weights

    if only_list or not names:
        _show_weights(CATALOG.values())
        return
    for weights in [find_weights(name) for name in names]:
        try:
            placed = fetch_weights(weights, progress=lambda name: click.echo(f"getting {name} ..."))
        except MetricUnavailableError as error:
            raise UserError(str(error)) from error
        click.echo(f"{weights.name}: {', '.join(p.name for p in placed)} in {weights.folder}")


def _show_weights(catalog: Iterable[Any]) -> None:
    for weights in catalog:
        state = "here" if weights.is_here else "-"
        click.echo(f"{weights.name:<24} {state:<5} {weights.title} ({weights.license})")
