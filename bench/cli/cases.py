"""xbench cases: the prompts and pictures that a manifest's methods get, listed and fetched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from plugins_manifest.schema.manifest import Manifest

_LIMIT = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N cases."
)


@click.group()
def cases() -> None:
    """The prompts and pictures of a manifest."""


@cases.command("list")
@click.argument("manifest", metavar="NAME|PATH")
@_LIMIT
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_cases(manifest: str, limit: int | None, as_json: bool) -> None:
    """List the cases: id, picture, prompt; a plugin's own prompts count too."""
    from bench.errors import shown_path
    from bench.plan.cases import all_cases

    listed = all_cases(_load(manifest), limit=limit)
    found = {case.case_id: case for cases_of in listed.values() for case in cases_of}
    if as_json:
        from dataclasses import asdict

        click.echo(json.dumps([asdict(case) for case in found.values()], indent=2))
        return
    from pathlib import Path

    for case in found.values():
        picture = shown_path(Path(case.image_path)) if case.image_path else ""
        picture = picture or (f"pocket scene {case.scene}" if case.scene else "no picture")
        click.echo(f"{case.case_id:<20} {picture}  {case.prompt}")


@cases.command("fetch")
@click.argument("manifest", metavar="NAME|PATH")
@_LIMIT
def fetch_command(manifest: str, limit: int | None) -> None:
    """Fetch the photos and captions of COCO val2017 that MANIFEST asks for.

    Captions are read out of the official zip without fetching the rest of it. The same command goes
    on where it was stopped. XBENCH_COCO_URL names another server.
    """
    from bench.errors import shown_path

    done = fetch_cases(_load(manifest), limit=limit)
    if done is None:
        click.echo("nothing to fetch: these cases are no photos of COCO")
        return
    click.echo(
        f"{done.n_fetched} photos fetched, {done.n_there} were here, in {shown_path(done.folder)}"
    )
    if done.captions_sha256:
        click.echo(f"captions_sha256: {done.captions_sha256}  # for the manifest, pins them")


def fetch_cases(manifest: Manifest, *, limit: int | None) -> Any:
    """Have a manifest's photos on this machine, with a progress bar; None where it has none."""
    from tqdm import tqdm

    from plugins_manifest.cases.coco_fetch import fetch_coco
    from plugins_manifest.schema.manifest import CocoCases

    if not isinstance(manifest.cases, CocoCases):
        return None
    with tqdm(unit="photo", desc="COCO val2017", disable=None) as bar:

        def step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return fetch_coco(manifest.cases, folder=manifest.folder, limit=limit, step=step)


def _load(name_or_path: str) -> Manifest:
    from bench.registry import known_names
    from plugins_manifest.schema.load import load_manifest

    return load_manifest(name_or_path, known=known_names())
