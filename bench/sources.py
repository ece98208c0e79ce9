"""Where a plugin's file lies: one source per scheme, found by entry points `xbench.sources`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.errors import UserError
from bench.registry import installed, load_entry
from plugins_manifest.schema import Manifest, PluginSpec
from runners.base import PluginFile
from runners.fingerprint import hash_path


class Source(Protocol):
    """Finds the file or folder that a manifest's `source` names."""

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


@dataclass(frozen=True)
class PocketSource:
    """A part that ships with the project, e.g. pocket:lora-outline."""

    def locate(self, reference: str, *, folder: Path) -> tuple[Path, str]:
        """The part's checked path and its recorded sha256."""
        from pocket.weights import part_path, part_sha256

        name = reference.partition(":")[2]
        return part_path(name), part_sha256(name)


LOCAL, POCKET = LocalSource(), PocketSource()


def resolve_plugin(spec: PluginSpec, manifest: Manifest) -> PluginFile:
    """Find a plugin's file and check its sha256; `UserError` names the plugin and the fix."""
    scheme, colon, _ = spec.source.partition(":")
    is_path = not colon or "/" in scheme or len(scheme) == 1
    schemes = installed("sources")
    if not is_path and scheme not in schemes:
        raise UserError(
            f"plugin {spec.id!r}: sources of the kind {scheme!r} cannot be fetched yet: download "
            f"the file, give its path, or use one of {', '.join(sorted(schemes))}"
        )
    source: Source = LOCAL if is_path else load_entry("sources", scheme)
    try:
        path, sha256 = source.locate(spec.source, folder=manifest.folder)
    except (UserError, ValueError) as error:
        raise UserError(f"plugin {spec.id!r}: {error}") from error
    if spec.sha256 is not None and spec.sha256 != sha256:
        raise UserError(
            f"plugin {spec.id!r}: {spec.source} has sha256 {sha256}, the manifest says "
            f"{spec.sha256}: fetch the right file or correct sha256"
        )
    return PluginFile(
        plugin_id=spec.id,
        kind=spec.kind,
        path=path,
        sha256=sha256,
        weight=spec.weight,
        condition=spec.condition,
    )
