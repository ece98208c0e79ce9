"""Lock and fetch a manifest: one plugin after the other, every problem at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.formats import ModuleTable
from plugins_manifest.lock import Lock, LockedPlugin
from plugins_manifest.schema import Manifest
from plugins_manifest.schema.manifest import PluginSpec
from plugins_manifest.supply.resolve import Locate, PluginFetcher, TableOf

State = Literal["kept", "locked", "fetched", "metadata-changed", "weights-changed", "skipped:gated"]


@dataclass(frozen=True)
class Done:
    """The result of one plugin; `reason` is why it was skipped."""

    id: str
    state: State
    entry: LockedPlugin | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The new lock, the result of each plugin, and one message for each that failed."""

    lock: Lock
    done: tuple[Done, ...]
    problems: tuple[str, ...]


def lock_manifest(
    supply: PluginFetcher,
    manifest: Manifest,
    *,
    old: Lock | None,
    locate: Locate,
    table_of: TableOf = lambda spec: None,
    update: bool = False,
    download: Literal["none", "unlocked", "missing"] = "unlocked",
    save: Callable[[Lock], None] = lambda lock: None,
) -> Outcome:
    """Pin every plugin; existing pins stay unless `update`.

    `download` selects the files: none, those of plugins without complete pins, or all that are
    missing in the store. `save` gets the lock after each plugin, so that a killed command loses
    nothing. Facts are judged against the model of `table_of`. A plugin that fails keeps its old
    entry.
    """
    entries = {entry.id: entry for entry in (old.plugins if old else ())}
    done: list[Done] = []
    problems: list[str] = []
    for spec in manifest.plugins:
        before = old.find(spec.id, spec.source) if old else None
        try:
            one = _lock_one(
                supply, spec, before, locate, table_of(spec), update=update, download=download
            )
        except UserError as error:
            if isinstance(error, FetchError) and error.code == "gated":
                done.append(Done(spec.id, "skipped:gated", before, str(error)))
            else:
                problems += error.problems
            if before is None:
                entries.pop(spec.id, None)
            continue
        done.append(one)
        if one.entry is not None and one.entry != entries.get(spec.id):
            entries[spec.id] = one.entry
            save(_ordered(manifest, entries))
    lock = _ordered(manifest, entries)
    if lock != old and (lock.plugins or old is not None):  # nothing pinned, nothing to write
        save(lock)
    return Outcome(lock, tuple(done), tuple(problems))


def _lock_one(
    supply: PluginFetcher,
    spec: PluginSpec,
    before: LockedPlugin | None,
    locate: Locate,
    table: ModuleTable | None,
    *,
    update: bool,
    download: Literal["none", "unlocked", "missing"],
) -> Done:
    _check_pin(spec, before)
    if before is not None and before.kind != spec.kind:
        before = before.model_copy(update={"kind": spec.kind})
    is_new = before is None or update or not before.is_complete
    entry = supply.resolve(spec, locate, table) if before is None or update else before
    must_come = download == "missing" and supply.is_missing(entry)
    if must_come or (is_new and download != "none"):
        entry = supply.fetch(entry, table)
        _check_pin(spec, entry)
    if before is not None and before.is_complete and entry.is_complete and entry != before:
        return Done(spec.id, _compare(before, entry), entry)
    if must_come:
        return Done(spec.id, "fetched", entry)
    return Done(spec.id, "kept" if entry == before else "locked", entry)


def _check_pin(spec: PluginSpec, entry: LockedPlugin | None) -> None:
    if entry is None or None in (spec.sha256, entry.sha256) or spec.sha256 == entry.sha256:
        return
    raise UserError(
        f"plugin {spec.id!r}: the lock has sha256 {entry.sha256}, the manifest has {spec.sha256}: "
        "correct the manifest, or delete the plugin's lock entry"
    )


def _compare(before: LockedPlugin, entry: LockedPlugin) -> State:
    if before.sha256 == entry.sha256:
        return "locked"
    old = [file.tensors_sha256 for file in before.files if file.tensors_sha256]
    new = [file.tensors_sha256 for file in entry.files if file.tensors_sha256]
    return "metadata-changed" if old and old == new else "weights-changed"


def _ordered(manifest: Manifest, entries: dict[str, LockedPlugin]) -> Lock:
    """Return the entries in the manifest's order, without those of removed plugins."""
    kept = tuple(entries[spec.id] for spec in manifest.plugins if spec.id in entries)
    return Lock(manifest=manifest.name, plugins=kept)
