"""A manifest's plugins on this machine: their lock file, the store, and how to fill it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugins_manifest.lock.lock import Lock, cached_lock, lock_path, read_lock, write_lock
from plugins_manifest.schema.load import SHIPPED, load_manifest
from plugins_manifest.schema.manifest import Manifest, PluginSpec

if TYPE_CHECKING:
    from plugins_manifest.supply.locking import Outcome
    from plugins_manifest.supply.resolve import PluginFetcher

# Makes the connection to the sites; tests give one that leads to servers of their own.
OpenSupply = Callable[..., "PluginFetcher"]


@dataclass(frozen=True)
class ManifestFiles:
    """A manifest with the place of its lock file; `label` is what a user types for it."""

    manifest: Manifest
    lock_file: Path
    label: str

    @classmethod
    def open(cls, name_or_path: str, *, lock_file: Path | None = None) -> ManifestFiles:
        """Read a manifest; `UserError` where there is none."""
        manifest = load_manifest(name_or_path)
        return cls(manifest, lock_file or lock_file_of(manifest), str(name_or_path))

    def lock(self) -> Lock | None:
        """The lock file's content, None before the first locking."""
        return read_lock(self.lock_file)

    def locate(self, spec: PluginSpec) -> tuple[Path, str]:
        """Path and sha256 of a plugin that needs no network."""
        from bench.plan.plugin_files import locate_local

        return locate_local(spec, self.manifest)


def lock_file_of(manifest: Manifest) -> Path:
    """Where a manifest's lock file is, or belongs."""
    path = manifest.path or Path.cwd() / f"{manifest.name}.yaml"
    return lock_path(path, is_shipped=path.parent == SHIPPED)


def lock_of(manifest: Manifest) -> Lock | None:
    """The lock of a manifest, None before the first locking."""
    return cached_lock(lock_file_of(manifest))


def label_of(manifest: Manifest) -> str:
    """What a user types to name a manifest."""
    from bench.errors import shown_path

    if manifest.path is None:
        return manifest.name
    return manifest.path.stem if manifest.path.parent == SHIPPED else shown_path(manifest.path)


def lock_shelf(shelf: ManifestFiles, supply: PluginFetcher, **choices: Any) -> Outcome:
    """Lock or fetch a manifest's plugins, writing the lock file after each of them."""
    from plugins_manifest.supply.locking import lock_manifest

    return lock_manifest(
        supply,
        shelf.manifest,
        old=shelf.lock(),
        locate=shelf.locate,
        save=lambda lock: write_lock(shelf.lock_file, lock),
        **choices,
    )


@contextmanager
def show_progress(name: str, total: int | None, done: int) -> Iterator[Callable[[int], object]]:
    """A progress bar on the standard error stream, none where that is no terminal."""
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


def quiet_hub() -> None:
    """Keep the Hub library's progress bars for terminals too."""
    if not sys.stderr.isatty():
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
