"""Files of a manifest's plugins: the lock, the sources by scheme, path and sha256 of each.

Local schemes are found by entry points `xbench.sources`. Nothing here downloads anything but
`lock_plugins`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.errors import UserError, shown_path
from plugins_manifest.formats.side_files import (
    IMAGE_ENCODER,
    image_encoder_folder,
    side_files,
)
from plugins_manifest.lock import Lock, lock_path, read_lock, write_lock
from plugins_manifest.lock.lock import cached_lock
from plugins_manifest.schema import Manifest, load_manifest, parse_reference
from plugins_manifest.schema.load import SHIPPED
from plugins_manifest.schema.manifest import PluginSpec
from plugins_manifest.schema.references import find_source, is_network, scheme_of
from plugins_manifest.store import Store, sha256_of_tree
from runners.base import PluginFile
from runners.families import family_traits
from runners.families.registry import hash_path
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
    """Return sizes and times of a file or folder; a change of them makes the hash stale."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in files)


def resolve_plugin(spec: PluginSpec, manifest: Manifest) -> PluginFile:
    """Find a plugin's file and check its sha256; `UserError` names the plugin and the fix.

    Makes no network requests. Raises `NotFetchedError` for a plugin that can be downloaded.
    """
    locate = _locate_stored if is_network(spec.source) else locate_local
    path, sha256 = locate(spec, manifest)
    both = with_side_files(spec, path, sha256)
    if spec.sha256 not in (None, sha256, both):
        raise UserError(
            f"plugin {spec.id!r}: {spec.source} has sha256 {sha256}, the manifest says "
            f"{spec.sha256}: fetch the right file or correct sha256"
        )
    return plugin_file(spec, manifest, path=path, sha256=both)


def with_side_files(spec: PluginSpec, path: Path, sha256: str) -> str:
    """Return the sha256 of a plugin's file together with the files beside it that are read.

    It is that of the file itself where nothing is. `UserError` names the plugin.
    """
    try:
        beside = side_files(path, spec.kind)
        named = image_encoder_folder() if spec.kind == "ip_adapter" else None
        if named is not None and not beside and not (path / IMAGE_ENCODER).is_dir():
            beside = (named,)
        if not beside:
            return sha256
        hashes = {"": sha256} | {side.name: _hash_of_side(side, _state(side)) for side in beside}
    except UserError as error:
        raise UserError.collect([f"plugin {spec.id!r}: {p}" for p in error.problems]) from error
    return sha256_of_tree(hashes)


@lru_cache(maxsize=256)
def _hash_of_side(path: Path, _state: tuple[tuple[int, int], ...]) -> str:
    return hash_path(path)


def plugin_file(spec: PluginSpec, manifest: Manifest, *, path: Path, sha256: str) -> PluginFile:
    """Return a plugin's file with its settings in the manifest."""
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
