"""Files of a manifest's plugins: the lock, the sources by scheme, path and sha256 of each.

Local schemes are found by entry points `xbench.sources`. Nothing here downloads anything but
`lock_plugins`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.errors import UserError, shown_path
from plugins_manifest.content import ChangedFileError, hash_path
from plugins_manifest.formats.side_files import side_files
from plugins_manifest.lock import Lock, lock_path, read_lock, write_lock
from plugins_manifest.lock.lock import cached_lock
from plugins_manifest.schema import Manifest, load_manifest, parse_reference
from plugins_manifest.schema.load import SHIPPED
from plugins_manifest.schema.manifest import PluginSpec
from plugins_manifest.schema.references import find_source, is_network, scheme_of
from plugins_manifest.store import Store
from runners.base import PluginFile
from runners.families import family_traits
from runners.families.traits import Side

if TYPE_CHECKING:
    from plugins_manifest.formats import ModuleTable
    from plugins_manifest.lock import LockedPlugin
    from plugins_manifest.supply import Outcome, PluginFetcher


class NotFetchedError(UserError):
    """A plugin that is not on this machine yet; `xbench plugins fetch` downloads it."""


class Locator(Protocol):
    """A source of files on this machine (group `xbench.sources`)."""

    def locate(self, reference: str, *, folder: Path) -> tuple[Path, str]:
        """Return path and sha256; `folder` anchors relative paths.

        Raises `UserError` or ValueError.
        """
        ...


@dataclass(frozen=True)
class LocalSource:
    """A path, relative to the manifest's folder."""

    def locate(self, reference: str, *, folder: Path) -> tuple[Path, str]:
        """Return the path below `folder` and the sha256 of its content."""
        path = folder / reference
        if not path.exists():
            raise UserError(f"there is no file or folder {reference!r}: check the path")
        return path, hash_path(path)


LOCAL = LocalSource()


# --- the lock file


@dataclass(frozen=True)
class ManifestFiles:
    """A manifest with the path of its lock file; `label` is what a user types to name it."""

    manifest: Manifest
    lock_file: Path
    label: str

    @classmethod
    def open(cls, name_or_path: str, *, lock_file: Path | None = None) -> ManifestFiles:
        """Read a manifest; `UserError` if it does not exist."""
        manifest = load_manifest(name_or_path)
        return cls(manifest, lock_file or lock_file_of(manifest), str(name_or_path))

    def lock(self) -> Lock | None:
        """Return the lock file's content, None before the first locking."""
        return read_lock(self.lock_file)

    def locate(self, spec: PluginSpec) -> tuple[Path, str]:
        """Return path and sha256 of a plugin that needs no network."""
        return locate_local(spec, self.manifest)


def lock_file_of(manifest: Manifest) -> Path:
    """Return the path of a manifest's lock file, which may not exist yet."""
    path = manifest.path or Path.cwd() / f"{manifest.name}.yaml"
    return lock_path(path, is_shipped=path.parent == SHIPPED)


def locked_entry(spec: PluginSpec, manifest: Manifest) -> LockedPlugin | None:
    """Return a plugin's entry in its manifest's lock file; None if it is not locked."""
    lock = cached_lock(lock_file_of(manifest))
    return lock.find(spec.id, spec.source) if lock else None


def label_of(manifest: Manifest) -> str:
    """Return what a user types to name a manifest."""
    if manifest.path is None:
        return manifest.name
    return manifest.path.stem if manifest.path.parent == SHIPPED else shown_path(manifest.path)


def lock_plugins(files: ManifestFiles, fetcher: PluginFetcher, **choices: Any) -> Outcome:
    """Lock or download a manifest's plugins; write the lock file after each of them."""
    from plugins_manifest.supply import lock_manifest

    return lock_manifest(
        fetcher,
        files.manifest,
        old=files.lock(),
        locate=files.locate,
        table_of=lambda spec: module_table(files.manifest, spec.side),
        save=lambda lock: write_lock(files.lock_file, lock),
        **choices,
    )


def module_table(manifest: Manifest, side: Side) -> ModuleTable | None:
    """Return the parameters of one side of a manifest's family; None if they are not known."""
    return family_traits(manifest.family).module_table(side)


# --- path and sha256


def locate_local(spec: PluginSpec, manifest: Manifest) -> tuple[Path, str]:
    """Return path and sha256 of a plugin that needs no network; `UserError` names the plugin."""
    scheme = scheme_of(spec.source)
    try:
        source: Locator = LOCAL if scheme is None else find_source(scheme)
        return source.locate(spec.source, folder=manifest.folder)
    except (UserError, ValueError) as error:
        raise UserError(f"plugin {spec.id!r}: {error}") from error


def _locate_stored(spec: PluginSpec, manifest: Manifest) -> tuple[Path, str]:
    """Return path and sha256 of a downloaded plugin, pinned by the manifest or its lock."""
    try:
        parse_reference(spec.source)
    except UserError as error:
        raise UserError.collect([f"plugin {spec.id!r}: {p}" for p in error.problems]) from error
    entry = locked_entry(spec, manifest)
    sha256 = spec.sha256 or (entry.sha256 if entry else None)
    path = Store().find(sha256) if sha256 else None
    if sha256 is None or path is None:
        what = "is not fetched yet" if sha256 else "is not locked and fetched yet"
        raise NotFetchedError(
            f"plugin {spec.id!r}: {spec.source} {what}: run: xbench plugins fetch "
            f"{label_of(manifest)}"
        )
    found = hash_path(path)
    if found != sha256:
        raise UserError(
            f"plugin {spec.id!r}: the store is damaged, {path} has sha256 {found}: delete "
            f"{path.parent} and run: xbench plugins fetch {label_of(manifest)}"
        )
    return path, sha256


def resolve_plugin(spec: PluginSpec, manifest: Manifest) -> PluginFile:
    """Find a plugin's file and check its sha256; `UserError` names the plugin and the fix.

    Makes no network requests. Raises `NotFetchedError` for a plugin that can be downloaded.
    """
    locate = _locate_stored if is_network(spec.source) else locate_local
    path, sha256 = locate(spec, manifest)
    if spec.sha256 not in (None, sha256):
        raise UserError(
            f"plugin {spec.id!r}: {spec.source} has sha256 {sha256}, the manifest says "
            f"{spec.sha256}: fetch the right file or correct sha256"
        )
    content = hash_path(path)
    if content != sha256 and locate(spec, manifest) != (path, sha256):  # hashed in another way
        raise ChangedFileError(f"plugin {spec.id!r}: {path.name} is being changed: run again later")
    file = plugin_file(spec, manifest, path=path, sha256=sha256)
    return replace(file, content_sha256=content)


def plugin_file(spec: PluginSpec, manifest: Manifest, *, path: Path, sha256: str) -> PluginFile:
    """Return a plugin's file with its settings in the manifest; `UserError` names the plugin."""
    try:
        beside = side_files(path, spec.kind)
    except UserError as error:
        raise UserError.collect([f"plugin {spec.id!r}: {p}" for p in error.problems]) from error
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
        side_files=tuple((found, hash_path(found)) for found in beside),
        reference=None if spec.reference is None else manifest.folder / spec.reference,
    )
