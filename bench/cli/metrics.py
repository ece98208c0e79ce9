"""The commands about metrics: list them, test them, fetch their weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from bench.cli.exits import NEGATIVE, finish
from bench.cli.output import echo, echo_json, echo_lines, json_option, note
from plugins_manifest.errors import UserError
from plugins_manifest.extras import require_extra

_LEVELS = {"image": "A number for each image", "group": "A number for each set of images"}
_NEEDY = "Weights are missing for"
_HINT = "In a manifest, the metric `condition` means all metrics of the plugins' conditions."


@click.group()
def metrics() -> None:
    """List and test metrics, and fetch their weights."""


@metrics.command("list")
@json_option
def list_metrics(as_json: bool) -> None:
    """List the installed metrics: name, better direction, question, weights."""
    from bench.registry import find_metric, installed
    from metrics.base import describe

    facts = []
    for name in sorted(installed("metrics")):
        try:
            facts.append(describe(find_metric(name)))
        except UserError as error:  # another package's: those of the others are listed
            echo(f"left out: {error}", err=True)
    if as_json:
        echo_lines(json.dumps(facts, indent=2))
        return
    for level, title in _LEVELS.items():
        available = [f for f in facts if f["level"] == level and not f["unavailable"]]
        if available:
            echo(f"{title}:")
        for fact in available:
            echo(_line(fact))
    _show_needy([fact for fact in facts if fact["unavailable"]])
    note(_HINT)


def _line(fact: dict[str, Any]) -> str:
    summary = fact["summary"][0].upper() + fact["summary"][1:]
    return f"  {fact['name']:<23} {fact['better']:<6} {summary}"


def _show_needy(facts: Sequence[dict[str, Any]]) -> None:
    """Print metrics below the missing weights, each with the command that fetches them."""
    from metrics.weights import CATALOG

    if facts:
        echo(f"{_NEEDY}:")
    for name, weights in CATALOG.items():
        users = [fact for fact in facts if name in fact["needs"]]
        if users and not weights.is_here:
            echo(f"  xbench metrics fetch {name}  ({_about(weights)})")
            for fact in users:
                echo(f"  {_line(fact)}")
    for fact in facts:
        if not set(fact["needs"]) & set(CATALOG):
            echo(f"{_line(fact)}: {fact['unavailable']}")


def _about(weights: Any) -> str:
    size = f", about {weights.megabytes:,} MB" if weights.megabytes else ""
    return f"{weights.title}, {weights.license}{size}"


@metrics.command("selftest")
@click.argument("names", metavar="[METRIC]...", nargs=-1)
@json_option
def selftest_metrics(names: Sequence[str], as_json: bool) -> None:
    """Check that known inputs give known values.

    Exit code 1: some do not. Metrics with missing weights are listed; they fail only if named.
    """
    from bench.scoring import selftests

    require_extra("render")
    n_wrong, n_ok, wanted, found = 0, 0, dict[str, None](), []
    for name, state, problem in selftests(names or None):
        found.append({"metric": name, "state": state, "problem": problem})
        n_ok += state == "ok"
        n_wrong += state == "wrong" or (state == "unavailable" and bool(names))
        if as_json:
            continue
        text = problem
        if state == "unavailable" and not names:
            weights = _missing_weights(name)
            wanted |= dict.fromkeys(weights)
            text = f"not tested, needs {', '.join(weights)}" if weights else problem
        echo(f"{name:<23} {text or 'ok'}")
    if as_json:
        echo_json(found)
    elif not names:
        echo(f"{n_ok} ok, {n_wrong} wrong")
    if wanted:
        note(f"the others need weights: xbench metrics fetch {' '.join(wanted)}")
    if n_wrong:
        finish(NEGATIVE)


def _missing_weights(metric: str) -> list[str]:
    from bench.registry import find_metric
    from metrics.weights import CATALOG

    needs = find_metric(metric).needs
    return [name for name in needs if name in CATALOG and not CATALOG[name].is_here]


@metrics.command("fetch")
@click.argument("names", metavar="WEIGHTS...", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Only list what can be fetched.")
@json_option
def fetch_metric_weights(names: Sequence[str], only_list: bool, as_json: bool) -> None:
    """Download the weights of metrics; no other command does.

    WEIGHTS are names of `xbench metrics list`; the files go to XBENCH_METRIC_WEIGHTS.
    """
    from bench.cli.fetch_output import show_progress
    from bench.cli.output import is_quiet
    from metrics.base import MetricUnavailableError
    from metrics.weights import CATALOG, fetch_weights, find_weights
    from plugins_manifest.http.download import no_progress

    if only_list or not names:
        _show_weights(CATALOG.values(), as_json=as_json)
        return
    found = {}
    for weights in [find_weights(name) for name in names]:
        try:
            placed = fetch_weights(
                weights,
                announce=lambda name: note(f"downloading {name} ..."),
                progress=no_progress if is_quiet() else show_progress,
            )
        except MetricUnavailableError as error:
            raise UserError(str(error)) from error
        found[weights.name] = [str(path) for path in placed]
        if not as_json:
            echo(f"{weights.name}: {', '.join(p.name for p in placed)} in {weights.folder}")
    if as_json:
        echo_json(found)


def _show_weights(catalog: Iterable[Any], *, as_json: bool) -> None:
    from metrics.weights import weights_folder

    if as_json:
        keys = ("name", "title", "license", "megabytes", "is_here")
        rows = [{key: getattr(weights, key) for key in keys} for weights in catalog]
        echo_json({"folder": str(weights_folder()), "weights": rows})
        return
    for weights in catalog:
        state = "here" if weights.is_here else "-"
        echo(f"{weights.name:<22} {state:<5} {_about(weights)}")
    echo(f"folder: {weights_folder()}")
