"""Where a plugin's file lies: one source per scheme, found by entry points `xbench.sources`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from bench.errors import UserError
from plugins_manifest.schema.manifest import Manifest, PluginSpec
from plugins_manifest.schema.references import (
    find_source,
    is_network,
    parse_reference,
    scheme_of,
)
from runners.base import PluginFile
from runners.families.registry import hash_path


class NotFetchedError(UserError):
    """A plugin that this machine does not have yet; `xbench plugins fetch` gets it."""


class Locator(Protocol):
    """A source of files on this machine (group `xbench.sources`)."""

    def locate(self, reference: str, *, folder: Path) -> tuple[Path, str]:
        """Path and sha256; `folder` anchors relative paths. Raises `UserError` or ValueError."""
        ...


@dataclass(frozen=True)
class LocalSource:
    """A path, relative to the manifest's folder."""

    def locate(self, reference: str, *, folder: Path) -> tuple[Path, str]:
        """The path below `folder` and the sha256 of its content."""
        path = folder / reference
        if not path.exists():
            raise UserError(f"there is no file or folder {reference!r}: check the path")
        return path, hash_path(path)


LOCAL = LocalSource()


def locate_local(spec: PluginSpec, manifest: Manifest) -> tuple[Path, str]:
    """Path and sha256 of a plugin that needs no network; `UserError` names the plugin."""
    scheme = scheme_of(spec.source)
    try:
        source: Locator = LOCAL if scheme is None else find_source(scheme)
        return source.locate(spec.source, folder=manifest.folder)
    except (UserError, ValueError) as error:
        raise UserError(f"plugin {spec.id!r}: {error}") from error


def _locate_stored(spec: PluginSpec, manifest: Manifest) -> tuple[Path, str]:
    """Path and sha256 of a fetched plugin: pinned by the manifest or its lock, in the store."""
    from bench.plan.fetching import label_of, lock_of
    from plugins_manifest.store import Store

    try:
        parse_reference(spec.source)
    except UserError as error:
        raise UserError.collect([f"plugin {spec.id!r}: {p}" for p in error.problems]) from error
    lock = lock_of(manifest)
    entry = lock.find(spec.id, spec.source) if lock else None
    sha256 = spec.sha256 or (entry.sha256 if entry else None)
    path = Store().find(sha256) if sha256 else None
    if sha256 is None or path is None:
        what = "is not fetched yet" if sha256 else "is not locked and fetched yet"
        raise NotFetchedError(
            f"plugin {spec.id!r}: {spec.source} {what}: run: xbench plugins fetch "
            f"{label_of(manifest)}"
        )
    found = _hash_of_stored(path, _state(path))
    if found != sha256:
        raise UserError(
            f"plugin {spec.id!r}: the store is damaged, {path} has sha256 {found}: delete "
            f"{path.parent} and run: xbench plugins fetch {label_of(manifest)}"
        )
    return path, sha256


@lru_cache(maxsize=1024)
def _hash_of_stored(path: Path, _state: tuple[tuple[int, int], ...]) -> str:
    return hash_path(path)


def _state(path: Path) -> tuple[tuple[int, int], ...]:
    """Sizes and times of a file or folder, so that what changed is hashed again."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def resolve_plugin(spec: PluginSpec, manifest: Manifest) -> PluginFile:
    """Find a plugin's file and check its sha256; `UserError` names the plugin and the fix.

    Never asks the network: `xbench plugins fetch` does.
    """
    locate = _locate_stored if is_network(spec.source) else locate_local
    path, sha256 = locate(spec, manifest)
    if spec.sha256 is not None and spec.sha256 != sha256:
        raise UserError(
            f"plugin {spec.id!r}: {spec.source} has sha256 {sha256}, the manifest says "
            f"{spec.sha256}: fetch the right file or correct sha256"
        )
    return plugin_file(spec, manifest, path=path, sha256=sha256)


def plugin_file(spec: PluginSpec, manifest: Manifest, *, path: Path, sha256: str) -> PluginFile:
    """A plugin's file with what the manifest says of it."""
    return PluginFile(
        plugin_id=spec.id,
        kind=spec.kind,
        path=path,
        sha256=sha256,
        weight=spec.weight,
        condition=spec.condition,
        side=spec.side,
        lora_semantics=spec.lora_semantics,
        allow_partial=spec.allow_partial,
        trigger=spec.trigger,
        token=spec.token,
        reference=None if spec.reference is None else manifest.folder / spec.reference,
    )
