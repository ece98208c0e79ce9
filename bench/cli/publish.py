"""The command `publish`: upload a run for others to look at."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.output import echo, echo_lines, is_quiet, json_option, note

if TYPE_CHECKING:
    from bench.publish import Publication


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "address",
    required=True,
    metavar="URL",
    help="A folder, s3://BUCKET/FOLDER or hf://datasets/ORG/NAME.",
)
@click.option("--key", metavar="NAME", help="The run's name in the store [its folder's].")
@click.option("--images", is_flag=True, help="Upload the full images too, not only thumbnails.")
@click.option("--nsfw", is_flag=True, help="Include plugins that are marked nsfw.")
@json_option
def publish(
    *, run_dir: Path, address: str, key: str | None, images: bool, nsfw: bool, as_json: bool
) -> None:
    """Publish a finished run for `xbench leaderboard URL`.

    Paths, names of machine and user, and tokens are removed. The same command completes an
    interrupted publication; existing files are not uploaded again.
    """
    from bench.publish import publish_run

    done = publish_run(
        run_dir,
        address,
        key=key,
        images=images,
        nsfw=nsfw,
        show_progress=not (as_json or is_quiet()),
        report=lambda line: note(line, err=True),
    )
    if as_json:
        echo_lines(json.dumps(done.as_data(), indent=2))
        return
    first, *rest = _lines(done, address)
    echo(first)
    for line in rest:
        note(line)


def _lines(done: Publication, address: str) -> list[str]:
    from bench.publish.publish import size_text

    kind = "images and thumbnails" if done.has_images else "thumbnails"
    lines = [
        f"published {done.key} to {done.to}: {done.n_trials} trials of {done.n_plugins} plugins, "
        f"{kind}; {done.n_objects} files, {size_text(done.n_bytes)}",
        f"uploaded: {done.n_new} files, {size_text(done.new_bytes)}"
        if done.n_new
        else "uploaded: nothing, the store is up to date",
    ]
    if done.n_failed:
        lines.append(f"{done.n_failed} trials failed: they are published without an image")
    if done.n_nsfw_left_out:
        lines.append(f"left out: {done.n_nsfw_left_out} plugins or stacks marked nsfw (--nsfw)")
    if done.n_conditions_missing:
        lines.append(f"{done.n_conditions_missing} condition images are missing in the run")
    lines.append(f"look at it: xbench leaderboard {address}")
    if done.baseline:
        lines.append(f"compare with it: xbench run --baseline {shlex.quote(done.baseline)}")
    return lines
