"""xbench cases: list and fetch the prompts and pictures of a manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from bench.cli.output import echo, echo_lines

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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
def fetch_command(manifest: str, limit: int | None) -> None:
    """Fetch the photos and captions of COCO val2017 that MANIFEST uses.

    Only the captions' part of the official zip is downloaded. The same command resumes an
    interrupted download. XBENCH_COCO_URL names another server.
    """
    from bench.errors import shown_path

    done = fetch_cases(_load(manifest), limit=limit)
    if done is None:
        echo("nothing to fetch: these cases are not photos of COCO")
        return
    echo(f"{done.n_fetched} photos fetched, {done.n_there} existed, in {shown_path(done.folder)}")
    if done.captions_sha256:
        echo(f"captions_sha256: {done.captions_sha256}  # for the manifest, pins them")


def fetch_cases(manifest: Manifest, *, limit: int | None) -> Any:
    """Download a manifest's missing photos, with a progress bar; None if it uses none."""
    from tqdm import tqdm

    from bench.cli.output import bar_disabled
    from plugins_manifest.cases import fetch_coco
    from plugins_manifest.schema.manifest import CocoCases

    if not isinstance(manifest.cases, CocoCases):
        return None
    with tqdm(unit="photo", desc="COCO val2017", disable=bar_disabled()) as bar:

        def step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return fetch_coco(manifest.cases, folder=manifest.folder, limit=limit, step=step)


def _load(name_or_path: str) -> Manifest:
    from bench.registry import known_names
    from plugins_manifest.schema import load_manifest

    return load_manifest(name_or_path, known=known_names())
