"""The command `gate` and `run --baseline`: compare, print, write, exit."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import click

from bench.cli.exits import finish
from bench.cli.output import echo_lines, json_option, note
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.gate.worst import PictureFolder
    from bench.run import RunRequest

policy_option = click.option(
    "--policy", type=click.Path(path_type=Path), help="Metrics, margins, error rates [shipped]."
)


P = ParamSpec("P")


@dataclass(frozen=True)
class GateFiles:
    """The files with a gate's outcome, and the address of the comment's pictures."""

    junit: Path | None = None
    markdown: Path | None = None
    pictures_url: str | None = None

    def check(self) -> None:
        """Raise `UserError` if a file to write exists and is not one of a gate."""
        from plugins_manifest.folders import refuse_foreign

        for path, option in ((self.junit, "--junit"), (self.markdown, "--markdown")):
            if path is not None:
                refuse_foreign(path, lambda head: b"xbench gate" in head, option=option)
        if self.pictures_url is not None and self.markdown is None:
            raise UserError("--pictures-url needs --markdown, the file that links the pictures")
        self._target()

    def write(self, facts: Mapping[str, Any], runs: tuple[Path, Path]) -> None:
        """Write the requested files; `runs` are the folders of baseline and candidate."""
        from bench.gate import as_junit, as_markdown
        from bench.gate.worst import link_pictures
        from bench.store.files import write_bytes

        if self.junit is not None:
            write_bytes(self.junit, as_junit(facts).encode())
        if self.markdown is not None:
            text = as_markdown(facts, link_pictures(facts, runs, self._target()))
            write_bytes(self.markdown, text.encode())

    def _target(self) -> PictureFolder | None:
        from bench.gate.worst import PictureFolder

        if self.markdown is None or self.pictures_url is None:
            return None
        return PictureFolder.beside(self.markdown, self.pictures_url)


def gate_files(command: Callable[P, None]) -> Callable[P, None]:
    """Add the options for files with a gate's outcome."""
    command = click.option(
        "--pictures-url",
        metavar="URL",
        help="Also write the worst pairs beside --markdown, linked as if at URL (.: relative).",
    )(command)
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
    pictures_url: str | None,
) -> None:
    """Compare a run with a baseline, which is named first: is anything worse?

    The baseline is a run directory or a published run: URL#KEY, or URL#KEY@sha256:... as `xbench
    publish` prints it, which is exactly that publication.

    Exit code 0: pass, identical, or a real loss inside the margin; 1: regression; 2: something to
    fix, e.g. settings that differ; 3: inconclusive, or images are missing; 70: unexpected failure.
    """
    from bench.gate import compare, load_policy, open_baseline

    files = GateFiles(junit, markdown, pictures_url)
    files.check()
    folder = open_baseline(baseline)
    found = compare(folder, candidate, load_policy(policy))
    files.write(found.facts, (folder, candidate))
    show_gate(found.facts, as_json=as_json)


def run_and_gate(
    request: RunRequest,
    baseline: Path,
    *,
    policy: Path | None,
    as_json: bool,
    files: GateFiles,
) -> NoReturn:
    """Render with the new weights until the gate is decided; then exit with its code."""
    from bench.gate import load_policy, run_gated

    files.check()
    outcome, found = run_gated(request, baseline, load_policy(policy))
    if not as_json:
        note(
            f"{outcome.n_trials} images, {outcome.n_cached} from the cache, "
            f"{outcome.n_failed} failed\n"
        )
    files.write(found.facts, (baseline, outcome.folder))
    show_gate(found.facts, as_json=as_json)


def prepare_gate(request: RunRequest, baseline: Path, *, policy: Path | None) -> RunRequest:
    """Return the request that `run_and_gate` would render, checked against the baseline."""
    from bench.gate import gated_request, load_policy

    return gated_request(request, baseline, load_policy(policy))[0]


def outlook_of(baseline: Path, *, policy: Path | None, limit: int | None) -> dict[str, Any]:
    """Return which tests can pass with a baseline, as plain data."""
    from bench.gate import gate_outlook, load_policy

    return gate_outlook(baseline, load_policy(policy), limit=limit)


def show_gate(facts: Mapping[str, Any], *, as_json: bool) -> NoReturn:
    """Print the outcome and exit with the verdict's code."""
    from bench.gate import as_text

    echo_lines(json.dumps(facts, indent=2) if as_json else as_text(facts))
    finish(facts["exit_code"])
