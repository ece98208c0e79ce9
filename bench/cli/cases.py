"""xbench cases: list and fetch the prompts and pictures of a manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from bench.cli.output import echo, echo_json, echo_lines, json_option
from plugins_manifest.progress import Progress

if TYPE_CHECKING:
    from plugins_manifest.schema import Manifest

_LIMIT = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N cases."
)


@click.group()
def cases() -> None:
    """List and fetch the prompts and pictures of a manifest."""


@cases.command("list")
@click.argument("manifest", metavar="NAME|PATH")
@_LIMIT
@json_option
def list_cases(manifest: str, limit: int | None, as_json: bool) -> None:
    """List the cases, also those of plugins with their own prompts: id, picture, prompt."""
    from bench.errors import shown_path
    from bench.plan.cases import all_cases

    listed = all_cases(_load(manifest), limit=limit)
    found = {case.case_id: case for cases_of in listed.values() for case in cases_of}
    if as_json:
        from dataclasses import asdict

        echo_lines(json.dumps([asdict(case) for case in found.values()], indent=2))
        return
    from pathlib import Path

    for case in found.values():
        picture = shown_path(Path(case.image_path)) if case.image_path else ""
        picture = picture or (f"pocket scene {case.scene}" if case.scene else "no picture")
        echo(f"{case.case_id:<20} {picture}  {case.prompt}")


@cases.command("fetch")
@click.argument("manifest", metavar="NAME|PATH")
@_LIMIT
@json_option
def fetch_command(manifest: str, limit: int | None, as_json: bool) -> None:
    """Fetch the photos and captions of COCO val2017 that MANIFEST uses.

    Only the captions' part of the official zip is downloaded. The same command resumes an
    interrupted download. XBENCH_COCO_URL names another server.
    """
    from bench.errors import shown_path

    done = fetch_cases(_load(manifest), limit=limit)
    if as_json:
        echo_json(done and {**vars(done), "folder": shown_path(done.folder)})
        return
    if done is None:
        echo("nothing to fetch: these cases are not photos of COCO")
        return
    echo(f"{done.n_fetched} photos fetched, {done.n_there} existed, in {shown_path(done.folder)}")
    if done.captions_sha256:
        echo(f"captions_sha256: {done.captions_sha256}  # for the manifest, pins them")


def fetch_cases(manifest: Manifest, *, limit: int | None) -> Any:
    """Download a manifest's missing photos, with a progress bar; None if it uses none."""
    from bench.cli.output import is_quiet
    from plugins_manifest.cases import fetch_coco
    from plugins_manifest.schema.manifest import CocoCases

    if not isinstance(manifest.cases, CocoCases):
        return None
    with Progress("downloading COCO val2017", unit="photo", has_bar=not is_quiet()) as bar:
        return fetch_coco(manifest.cases, folder=manifest.folder, limit=limit, step=bar.to)


def _load(name_or_path: str) -> Manifest:
    from bench.registry import known_names
    from plugins_manifest.schema import load_manifest

    return load_manifest(name_or_path, known=known_names())
