"""The command `reference`: render with Civitai's hosted generator, to compare with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from bench.cli.output import echo, echo_json, echo_lines, json_option
from plugins_manifest.errors import UserError


@click.command()
@click.option("--manifest", required=True, metavar="NAME|PATH", help="Plugins and prompts.")
@click.option("--model", required=True, metavar="URN", help="AIR of a checkpoint for SD 1.5.")
@click.option("--plugin", "plugins", multiple=True, metavar="ID", help="Only these plugins.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N cases.")
@click.option("--out", type=click.Path(path_type=Path), help="Output folder [references/NAME].")
@click.option("--endpoint", metavar="URL", help="Another address of the generator.")
@click.option("--dry-run", is_flag=True, help="Only print the requests.")
@click.option("--yes", is_flag=True, help="Spend Buzz without confirmation.")
@json_option
def reference(
    *,
    manifest: str,
    model: str,
    plugins: Sequence[str],
    limit: int | None,
    out: Path | None,
    endpoint: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Render plugins on Civitai's hosted generator, for reference.

    AIR, prompt, settings and seed are those of method base. It costs Buzz of the account of
    CIVITAI_API_TOKEN, and its pictures are not reproducible bit by bit.
    """
    from bench.civitai import check_request, job_of, render_references, wanted_references
    from plugins_manifest.schema import load_manifest

    loaded = load_manifest(manifest)
    wanted = wanted_references(loaded, plugins=plugins, limit=limit)
    air = check_request(model, loaded.settings, wanted)
    if dry_run:
        jobs = {one.file_name: job_of(one, air, loaded.settings) for one in wanted}
        echo_lines(json.dumps(jobs, indent=2))
        return
    from bench.civitai import Generator, connect, fetch_picture
    from bench.civitai.client import TOKEN_NAME
    from plugins_manifest.sources.civitai import token_from_environment

    token = token_from_environment()
    if token is None:
        raise UserError(f"no Civitai token found: set {TOKEN_NAME} to one of your account")
    if not yes:
        click.confirm(f"Render {len(wanted)} pictures? Each costs Buzz.", abort=True)
    generator = Generator(connect(token, endpoint=endpoint), fetch_picture)
    folder = out or Path("references") / loaded.name
    made = []
    for done in render_references(
        wanted, folder, generator=generator, model=air, settings=loaded.settings
    ):
        made.append(str(folder / done.file_name))
        if not as_json:
            echo(made[-1])
    if as_json:
        echo_json(made)
