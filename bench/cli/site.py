"""The command `site`: runs as a folder of pages that any host can serve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bench.cli.output import echo, echo_json, json_option, note


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--to", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder to write."
)
@click.option("--url", metavar="URL", help="Where DIR will be: full links, sitemap.xml.")
@click.option(
    "--dataset",
    metavar="OWNER/NAME",
    help="Benchmark of the Hugging Face Hub: also write eval-results.yaml for each plugin.",
)
@click.option("--nsfw", is_flag=True, help="Include plugins that are marked nsfw.")
@json_option
def site(
    *,
    runs: Sequence[str],
    to: Path,
    url: str | None,
    dataset: str | None,
    nsfw: bool,
    as_json: bool,
) -> None:
    """Write runs as a static site: cards, a page for each plugin, badges, feed, data.

    RUN is a run directory, or STORE#KEY for a run that was published with its images.

    Opens from the disk and from any static host; no page loads anything from elsewhere. Paths,
    names of machine and user, and tokens are removed. The same command replaces its own files.
    """
    from bench.publish.publish import size_text
    from bench.site import SiteOptions, build_site

    done = build_site(runs, to, SiteOptions(url=url, dataset=dataset, nsfw=nsfw))
    if as_json:
        echo_json(done.as_data())
        return
    n_runs = f"{done.n_runs} {'run' if done.n_runs == 1 else 'runs'}"
    plugins = f"{done.n_plugins} {'plugin' if done.n_plugins == 1 else 'plugins'}"
    echo(f"wrote {plugins} of {n_runs}: {done.n_files} files, {size_text(done.n_bytes)}")
    if done.n_unfinished:
        note(f"unfinished, without verdicts: {done.n_unfinished} of {n_runs}")
    note(f"open it: {done.first_page}")
