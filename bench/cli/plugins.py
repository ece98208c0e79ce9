"""xbench plugins: list, pin, fetch and verify the plugins of a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.exits import NEGATIVE, finish
from bench.cli.output import echo, echo_json, echo_lines, json_alone, json_option
from plugins_manifest.errors import UserError

if TYPE_CHECKING:
    from plugins_manifest.supply import PluginFetcher

    # Opens the connections to the sites; tests pass one that leads to local servers.
    OpenSupply = Callable[..., PluginFetcher]

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
    help="Also fetch from this host.",
)


@click.group()
def plugins() -> None:
    """List, pin, fetch, inspect and verify plugins."""


@plugins.command("list")
@click.option("--manifest", default="pocket", show_default=True, metavar="NAME|PATH")
@json_option
def list_plugins(manifest: str, as_json: bool) -> None:
    """List the plugins of a manifest, and its stacks."""
    from bench.cli.fetch_output import show_manifest
    from bench.plan.plugin_files import ManifestFiles

    show_manifest(ManifestFiles.open(manifest), as_json=as_json)


@plugins.command("show")
@click.argument("plugin")
@click.option("--manifest", default="pocket", show_default=True, metavar="NAME|PATH")
@json_alone
def show_plugin(plugin: str, manifest: str) -> None:
    """Print one plugin: its entry in the manifest and the lock, its file and sha256."""
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
    echo_lines(json.dumps(facts, indent=2))


@plugins.command("lock")
@click.argument("manifest")
@click.option("--update", is_flag=True, help="Also pin again what is pinned already.")
@click.option("--no-download", is_flag=True, help="Write only the facts that the sites give.")
@_LOCK_FILE
@_HOSTS
@json_option
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
    """Pin every plugin of MANIFEST to a hash: write MANIFEST.lock.yaml.

    Pinned plugins are kept unless --update. Exit code 1: gated plugins were skipped.
    """
    from bench.cli.fetch_output import show_outcome
    from bench.plan.plugin_files import ManifestFiles, lock_plugins
    from bench.plan.remarks import log_remarks

    files = ManifestFiles.open(manifest, lock_file=lock_file)
    with closing(_Open(open_supply, allow_hosts)) as site:
        outcome = lock_plugins(
            files, site.supply, update=update, download="none" if no_download else "unlocked"
        )
    log_remarks(files)
    show_outcome(outcome, files.lock_file, as_json=as_json)


@plugins.command("fetch")
@click.argument("manifest")
@click.option("--dry-run", is_flag=True, help="Only list what would be fetched.")
@_LOCK_FILE
@_HOSTS
@json_option
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
    """Download the missing files of MANIFEST; plugins that are not locked are locked first.

    The same command resumes an interrupted download. Exit code 1: gated plugins were skipped.
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
    """Fetch plugins and photos; print only progress, raise `UserError` for problems.

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
@json_option
def verify_command(manifest: str, lock_file: Path | None, as_json: bool) -> None:
    """Hash the files of MANIFEST and compare them with its lock (offline).

    Exit code 1: some files differ or are missing.
    """
    from bench.cli.fetch_output import show_lines
    from bench.plan.plugin_files import ManifestFiles
    from plugins_manifest.store import Store
    from plugins_manifest.supply import verify_manifest

    files = ManifestFiles.open(manifest, lock_file=lock_file)
    verdicts = verify_manifest(files.manifest, files.lock(), Store(), files.locate)
    if as_json:
        echo_lines(json.dumps([vars(verdict) for verdict in verdicts], indent=2))
    else:
        fixes = [f" -> {verdict.fix}" if verdict.fix else "" for verdict in verdicts]
        lines = [(v.id, f"{v.words}: {v.detail}{f}") for v, f in zip(verdicts, fixes, strict=True)]
        show_lines(lines)
    if any(verdict.state != "ok" for verdict in verdicts):
        finish(NEGATIVE)


@plugins.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@json_option
def convert_command(file: Path, new: Path, as_json: bool) -> None:
    """Convert a pickled FILE (.pt, .bin, .ckpt) to a safetensors file NEW.

    FILE is read in a process without rights or network and with little memory; only tensors are
    kept.
    """
    from bench.errors import shown_path
    from plugins_manifest.inspect import convert_pickle

    if not file.is_file():
        raise UserError(f"{str(file)!r} is not a file: give a pickled plugin's file")
    if new.is_symlink() or new.exists() or not new.absolute().parent.is_dir():
        raise UserError(f"{shown_path(new)} exists, or its folder does not: name a new file")
    header = convert_pickle(file, new)
    if as_json:
        echo_json({"file": shown_path(new), "tensors": len(header.tensors)})
    else:
        echo(f"{len(header.tensors)} tensors in {shown_path(new)}")


class _Open:
    """The fetcher of one command; closes its connections."""

    def __init__(self, open_supply: OpenSupply | None, allow_hosts: Sequence[str]) -> None:
        from bench.cli.fetch_output import quiet_hub, show_progress
        from bench.cli.output import is_quiet
        from plugins_manifest.http.download import no_progress
        from plugins_manifest.supply import resolve as supply

        quiet_hub()
        self.supply: PluginFetcher = (open_supply or supply.open_supply)(
            allow_hosts=allow_hosts, progress=no_progress if is_quiet() else show_progress
        )

    def close(self) -> None:
        self.supply.close()
