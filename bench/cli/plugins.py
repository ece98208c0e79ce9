"""xbench plugins: what a manifest contains, pinned, fetched and checked."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plugins_manifest.errors import UserError

if TYPE_CHECKING:
    from plugins_manifest.supply.resolve import PluginFetcher

    # Opens the connections to the sites; tests pass one that leads to local servers.
    OpenSupply = Callable[..., PluginFetcher]

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_LOCK_FILE = click.option(
    "--lock",
    "lock_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Another lock file [beside the manifest].",
)
_HOSTS = click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="HOST",
    help="Fetch from this host too.",
)


@click.group()
def plugins() -> None:
    """What manifests contain: list, lock, fetch and check it."""


@plugins.command("list")
@click.option("--manifest", default="pocket", show_default=True, metavar="NAME|PATH")
@_JSON
def list_plugins(manifest: str, as_json: bool) -> None:
    """List the plugins of a manifest, and its stacks."""
    from bench.cli.fetch_output import show_manifest
    from bench.plan.plugin_files import ManifestFiles

    show_manifest(ManifestFiles.open(manifest), as_json=as_json)


@plugins.command("show")
@click.argument("plugin")
@click.option("--manifest", default="pocket", show_default=True, metavar="NAME|PATH")
def show_plugin(plugin: str, manifest: str) -> None:
    """Show one plugin: what the manifest and its lock say, its file and sha256."""
    from bench.errors import shown_path, unknown_name
    from bench.plan.plugin_files import ManifestFiles, resolve_plugin
    from plugins_manifest.schema.references import is_network

    files = ManifestFiles.open(manifest)
    specs = {spec.id: spec for spec in files.manifest.plugins}
    if plugin not in specs:
        raise UserError(unknown_name("plugin", plugin, specs))
    spec, lock = specs[plugin], files.lock()
    entry = lock.find(spec.id, spec.source) if lock else None
    facts: dict[str, Any] = spec.model_dump(mode="json")
    facts["lock"] = entry.model_dump(mode="json", exclude_none=True) if entry else None
    try:
        file = resolve_plugin(spec, files.manifest)
        facts |= {"file": shown_path(file.path), "sha256": file.sha256}
    except UserError as error:
        if not is_network(spec.source):
            raise
        facts |= {"file": None, "note": str(error)}
    click.echo(json.dumps(facts, indent=2))


@plugins.command("lock")
@click.argument("manifest")
@click.option("--update", is_flag=True, help="Pin again what is pinned already.")
@click.option("--no-download", is_flag=True, help="Note only what the sites say.")
@_LOCK_FILE
@_HOSTS
@_JSON
@click.pass_obj
def lock_command(
    open_supply: OpenSupply | None,
    manifest: str,
    *,
    update: bool,
    no_download: bool,
    lock_file: Path | None,
    allow_hosts: Sequence[str],
    as_json: bool,
) -> None:
    """Pin every plugin of MANIFEST to bytes: write MANIFEST.lock.yaml.

    What is pinned stays as it is unless --update. Exit code 1: some were skipped as gated.
    """
    from bench.cli.fetch_output import show_outcome
    from bench.plan.plugin_files import ManifestFiles, lock_plugins

    files = ManifestFiles.open(manifest, lock_file=lock_file)
    with closing(_Open(open_supply, allow_hosts)) as site:
        outcome = lock_plugins(
            files, site.supply, update=update, download="none" if no_download else "unlocked"
        )
    show_outcome(outcome, files.lock_file, as_json=as_json)


@plugins.command("fetch")
@click.argument("manifest")
@click.option("--dry-run", is_flag=True, help="Only say what, from where, how large.")
@_LOCK_FILE
@_HOSTS
@_JSON
@click.pass_obj
def fetch_command(
    open_supply: OpenSupply | None,
    manifest: str,
    *,
    dry_run: bool,
    lock_file: Path | None,
    allow_hosts: Sequence[str],
    as_json: bool,
) -> None:
    """Have every file of MANIFEST in the store; what is not locked yet is locked first.

    The same command goes on where it was stopped. Exit code 1: some were skipped as gated.
    """
    from bench.cli.fetch_output import show_order, show_outcome
    from bench.plan.plugin_files import ManifestFiles, lock_plugins

    files = ManifestFiles.open(manifest, lock_file=lock_file)
    with closing(_Open(open_supply, allow_hosts)) as site:
        if dry_run:
            show_order(files, site.supply, as_json=as_json)
            return
        outcome = lock_plugins(files, site.supply, download="missing")
    show_outcome(outcome, files.lock_file, as_json=as_json)


def fetch_quietly(manifest: str, open_supply: OpenSupply | None, *, limit: int | None) -> None:
    """As `fetch`, and `xbench cases fetch`; nothing is printed but progress and problems.

    A gated plugin is a problem here.
    """
    from bench.cli.cases import fetch_cases
    from bench.plan.plugin_files import ManifestFiles, lock_plugins

    files = ManifestFiles.open(manifest)
    with closing(_Open(open_supply, ())) as site:
        outcome = lock_plugins(files, site.supply, download="missing")
    problems = [*outcome.problems, *(done.reason for done in outcome.done if done.reason)]
    try:
        fetch_cases(files.manifest, limit=limit)
    except UserError as error:
        problems += error.problems
    if problems:
        raise UserError.collect(problems)


@plugins.command("verify")
@click.argument("manifest")
@_LOCK_FILE
@_JSON
def verify_command(manifest: str, lock_file: Path | None, as_json: bool) -> None:
    """Hash the files of MANIFEST again and compare them with its lock; needs no network.

    Exit code 1 where anything differs or is not here.
    """
    from bench.cli.fetch_output import show_lines
    from bench.plan.plugin_files import ManifestFiles
    from plugins_manifest.store import Store
    from plugins_manifest.supply.verify import verify

    files = ManifestFiles.open(manifest, lock_file=lock_file)
    verdicts = verify(files.manifest, files.lock(), Store(), files.locate)
    if as_json:
        click.echo(json.dumps([vars(verdict) for verdict in verdicts], indent=2))
    else:
        fixes = [f" -> {verdict.fix}" if verdict.fix else "" for verdict in verdicts]
        lines = [(v.id, f"{v.words}: {v.detail}{f}") for v, f in zip(verdicts, fixes, strict=True)]
        show_lines(lines)
    if any(verdict.state != "ok" for verdict in verdicts):
        sys.exit(1)


@plugins.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
def convert_command(file: Path, new: Path) -> None:
    """Turn a pickled FILE (.pt, .bin, .ckpt) into a safetensors file NEW.

    FILE is read in a process without rights, network or much memory; only tensors come through.
    """
    from bench.errors import shown_path
    from plugins_manifest.inspect.pickle_convert import convert_pickle

    if not file.is_file():
        raise UserError(f"{str(file)!r} is no file: give a pickled plugin's file")
    if new.exists() or not new.absolute().parent.is_dir():
        raise UserError(f"{shown_path(new)} exists, or its folder does not: name a new file")
    header = convert_pickle(file, new)
    click.echo(f"{len(header.tensors)} tensors in {shown_path(new)}")


class _Open:
    """The supply of one command; closes its connections."""

    def __init__(self, open_supply: OpenSupply | None, allow_hosts: Sequence[str]) -> None:
        from plugins_manifest.supply import resolve as supply

        _quiet_hub()
        self.supply: PluginFetcher = (open_supply or supply.open_supply)(
            allow_hosts=allow_hosts, progress=_show_progress
        )

    def close(self) -> None:
        self.supply.client.close()


@contextmanager
def _show_progress(name: str, total: int | None, done: int) -> Iterator[Callable[[int], object]]:
    """Show a progress bar on the standard error stream if that is a terminal."""
    from tqdm import tqdm

    with tqdm(
        total=total,
        initial=done,
        desc=name,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=None,
        leave=False,
    ) as bar:
        yield bar.update


def _quiet_hub() -> None:
    """Turn off the Hub library's progress bars unless standard error is a terminal."""
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
