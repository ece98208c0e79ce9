"""audit.parquet: what each plugin's file changes and what arrived in the model, by module.

The rows come from `runners.audit`. Audits are cached with the images that were rendered under
them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from bench.errors import UserError
from bench.plan import Plan
from bench.store import ImageCache, Row, RunStore, grouped, records
from bench.store.documents import members_of
from plugins_manifest.documents import read_json
from plugins_manifest.sealed import read_sealed, write_sealed
from runners.audit import Audit, AuditRow, PluginNotAppliedError
from runners.base import PluginFile, Rendered, Stack, direct_name

if TYPE_CHECKING:
    from runners.plugins import LoadedPlugin

# Raise by one whenever a change of the code changes the rows of an audit.
AUDIT_REVISION = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Audited:
    """The audit of a plugin that was loaded, or refused."""

    file: PluginFile
    audit: Audit


def audited(
    stack: Stack, run: Callable[[Callable[[Sequence[LoadedPlugin]], None]], Iterator[Rendered]]
) -> Iterator[Rendered | Audited]:
    """Yield what `run(on_loaded)` renders, with the audits of plugins that it loads or refuses."""
    loaded: list[LoadedPlugin] = []
    try:
        for rendered in run(loaded.extend):
            yield from _taken(loaded)
            yield rendered
    except PluginNotAppliedError as error:
        yield from _taken(loaded)
        yield from (Audited(f, error.audit) for f in stack if f.plugin_id == error.plugin_id)
        raise


def _taken(loaded: list[LoadedPlugin]) -> Iterator[Audited]:
    found, loaded[:] = [*loaded], []
    yield from (Audited(plugin.file, plugin.audit) for plugin in found)


class LoadAudit:
    """The audits of a run, written as they come; `kept` is the cache's folder or None.

    `model` is everything besides the plugin that decides an audit: the family's weights by name,
    and the preset, which sets the default of `lora_semantics`.
    """

    def __init__(self, store: RunStore, *, model: Mapping[str, str], kept: Path | None) -> None:
        self._store = store
        self._model = dict(model)
        self._kept = kept
        self._audits: dict[str, Audit] = read_audits(store)

    @classmethod
    def of_plan(cls, plan: Plan, store: RunStore, context: str, cache: ImageCache | None) -> Self:
        """Return the audits of a run, with those kept beside the cached images of a context."""
        preset = plan.manifest.settings.preset
        return cls(
            store,
            model={**plan.weights, "context": context, "preset": preset},
            kept=None if cache is None else cache.audits,
        )

    def enter(self, file: PluginFile, audit: Audit) -> None:
        """Add one plugin's audit, also of one that was refused."""
        if self._audits.get(file.audit_name) != audit:
            self._audits[file.audit_name] = audit
            self._write()
        if self._kept is not None and read_sealed(path := self._path(file, self._kept)) is None:
            try:
                write_sealed(path, [asdict(row) for row in audit.rows], durable=False)
            except OSError as error:
                _LOG.warning("the audit is not cached: %s", error)

    def complete(self, plugins: Iterable[PluginFile]) -> None:
        """Add the plugins that were not loaded because all their images came from the cache."""
        missing = [file for file in plugins if file.audit_name not in self._audits]
        found = {file.audit_name: self._cached(file) for file in missing}
        self._audits |= {plugin: audit for plugin, audit in found.items() if audit is not None}
        if missing:
            self._write()

    def _cached(self, file: PluginFile) -> Audit | None:
        """Return the audit of the cached images; None if it is missing or damaged."""
        if self._kept is None:
            return None
        try:
            path = self._path(file, self._kept)
            rows = read_sealed(path) or _of_earlier_version(path)
            return None if rows is None else Audit(tuple(AuditRow(**row) for row in rows))
        except TypeError:
            return None

    def _write(self) -> None:
        _write_audits(self._store, self._audits)

    def _path(self, file: PluginFile, folder: Path) -> Path:
        identity = {
            "revision": AUDIT_REVISION,
            "plugin": file.sha256,
            "kind": file.kind,
            "side": file.side,
            "token": file.token,
            "model": self._model,
        }
        if file.side_files:
            identity["side_files"] = [sha256 for _, sha256 in file.side_files]
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return folder / f"{digest[:20]}.audit"


def _of_earlier_version(path: Path) -> list[Any] | None:
    """Return the rows of a cached audit that has no hash."""
    try:
        rows = read_json(path)
    except UserError:
        return None
    return rows if isinstance(rows, list) else None


def _write_audits(store: RunStore, audits: Mapping[str, Audit]) -> None:
    rows = [
        {"plugin": plugin, **asdict(row)}
        for plugin, audit in sorted(audits.items())
        for row in audit.rows
    ]
    store.write_table("audit", pd.DataFrame(rows))


def merge_audits(store: RunStore, part: RunStore) -> None:
    """Add the audits of a part of a run; those that the run has stay."""
    known = read_audits(store)
    more = {plugin: a for plugin, a in read_audits(part).items() if plugin not in known}
    if more:
        _write_audits(store, known | more)


def read_audits(store: RunStore) -> dict[str, Audit]:
    """Return plugin id -> its audit."""
    return audits_of(records(store.read_table("audit")))


def audits_of(rows: Iterable[Row]) -> dict[str, Audit]:
    """Return plugin id -> its audit of rows of the audit table."""
    names = [field.name for field in fields(AuditRow)]
    groups = grouped(rows, "plugin")
    return {
        str(plugin): Audit(tuple(AuditRow(**{name: row[name] for name in names}) for row in rows))
        for (plugin,), rows in groups.items()
    }


def remarks(store: RunStore) -> dict[str, str]:
    """Return plugin or stack -> the remark to print with it: how much of it was applied.

    Only for plugins that were rendered incomplete (`allow_partial`).
    """
    audits = read_audits(store)
    partial = {plugin: audit for plugin, audit in audits.items() if not audit.is_complete}
    found: dict[str, str] = {}
    for row in _stacks(store):
        names = members_of(row["stack"])
        members = [m for name in names for m in (name, direct_name(name)) if m in partial]
        if members:
            found[row["plugin"]] = "; ".join(f"{m}: {partial[m].summary()}" for m in members)
    return found


def _stacks(store: RunStore) -> list[Row]:
    trials: Any = store.trials()[["plugin", "stack"]].drop_duplicates()
    return records(trials)
