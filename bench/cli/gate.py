"""The command `gate` and `run --baseline`: compare, print, write, exit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import click

from bench.cli.exits import finish
from bench.cli.output import echo_lines, json_option, note

if TYPE_CHECKING:
    from bench.run import RunRequest

policy_option = click.option(
    "--policy", type=click.Path(path_type=Path), help="Metrics, margins, error rates [shipped]."
)


P = ParamSpec("P")


def gate_files(command: Callable[P, None]) -> Callable[P, None]:
    """Add the options for files with a gate's outcome."""
    for name, kind in (("--markdown", "Markdown"), ("--junit", "JUnit XML")):
        text = f"Write the gate's outcome here as {kind}."
        command = click.option(name, type=click.Path(path_type=Path), help=text)(command)
    return command


@click.command()
@click.argument("baseline", metavar="RUN|URL")
@click.argument("candidate", metavar="RUN", type=click.Path(path_type=Path))
@policy_option
@json_option
@gate_files
def gate(
    *,
    baseline: str,
    candidate: Path,
    policy: Path | None,
    as_json: bool,
    junit: Path | None,
    markdown: Path | None,
) -> None:
    """Compare a run with a baseline, which is named first: is anything worse?

    The baseline is a run directory or a published run: URL#KEY, or URL#KEY@sha256:... as `xbench
    publish` prints it, which is exactly that publication.

    Exit code 0: pass, identical, or a real loss inside the margin; 1: regression; 2: something to
    fix, e.g. settings that differ; 3: inconclusive, or images are missing; 70: unexpected failure.
    """
    from bench.gate import compare, load_policy, open_baseline

    refuse_other_files(junit, markdown)
    found = compare(open_baseline(baseline), candidate, load_policy(policy))
    show_gate(found.facts, as_json=as_json, junit=junit, markdown=markdown)


def refuse_other_files(junit: Path | None, markdown: Path | None) -> None:
    """Raise `UserError` if a file to write exists and is not one of a gate."""
    from plugins_manifest.folders import refuse_foreign

    for path, option in ((junit, "--junit"), (markdown, "--markdown")):
        if path is not None:
            refuse_foreign(path, lambda head: b"xbench gate" in head, option=option)


def run_and_gate(
    request: RunRequest,
    baseline: Path,
    *,
    policy: Path | None,
    as_json: bool,
    junit: Path | None,
    markdown: Path | None,
) -> NoReturn:
    """Render with the new weights until the gate is decided; then exit with its code."""
    from bench.gate import load_policy, run_gated

    refuse_other_files(junit, markdown)
    outcome, found = run_gated(request, baseline, load_policy(policy))
    if not as_json:
        note(
            f"{outcome.n_trials} images, {outcome.n_cached} from the cache, "
            f"{outcome.n_failed} failed\n"
        )
    show_gate(found.facts, as_json=as_json, junit=junit, markdown=markdown)


def prepare_gate(request: RunRequest, baseline: Path, *, policy: Path | None) -> RunRequest:
    """Return the request that `run_and_gate` would render, checked against the baseline."""
    from bench.gate import gated_request, load_policy

    return gated_request(request, baseline, load_policy(policy))[0]


def outlook_of(baseline: Path, *, policy: Path | None, limit: int | None) -> dict[str, Any]:
    """Return which tests can pass with a baseline, as plain data."""
    from bench.gate import gate_outlook, load_policy

    return gate_outlook(baseline, load_policy(policy), limit=limit)


def show_gate(
    facts: Mapping[str, Any],
    *,
    as_json: bool,
    junit: Path | None = None,
    markdown: Path | None = None,
) -> NoReturn:
    """Print the outcome, write the requested files, exit with the verdict's code."""
    from bench.gate import as_junit, as_markdown, as_text
    from bench.store.files import write_bytes

    for path, write in ((junit, as_junit), (markdown, as_markdown)):
        if path is not None:
            write_bytes(path, write(facts).encode())
    echo_lines(json.dumps(facts, indent=2) if as_json else as_text(facts))
    finish(facts["exit_code"])
