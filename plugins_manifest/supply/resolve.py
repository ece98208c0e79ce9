"""From a manifest's source to checked bytes in the store: first the lock entry, then the files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from plugins_manifest.errors import UserError
from plugins_manifest.formats import ModuleTable
from plugins_manifest.formats.side_files import side_files
from plugins_manifest.http import AllowList, Client, Progress
from plugins_manifest.http.download import no_progress
from plugins_manifest.lock import LockedFile, LockedPlugin, Origin, fingerprint, weights_of
from plugins_manifest.lock.file_facts import Fingerprint
from plugins_manifest.lock.lock import LOCAL
from plugins_manifest.schema import parse_reference
from plugins_manifest.schema.manifest import PluginSpec
from plugins_manifest.schema.references import Reference, find_source
from plugins_manifest.sources import Session, Source, draft_entry
from plugins_manifest.sources.base import installed_network_sources
from plugins_manifest.store import Store

# The path and sha256 of a source on this machine.
Locate = Callable[[PluginSpec], tuple[Path, str]]
# The parameters of the model that a plugin is for; None where they are not known.
TableOf = Callable[[PluginSpec], ModuleTable | None]


@dataclass(frozen=True)
class PluginFetcher:
    """Pins and downloads plugins; `sources` by scheme replace the installed ones."""

    session: Session
    sources: Mapping[str, Source] = field(default_factory=dict)

    def close(self) -> None:
        """Close every connection."""
        self.session.client.close()

    def resolve(
        self, spec: PluginSpec, locate: Locate, table: ModuleTable | None = None
    ) -> LockedPlugin:
        """Return the entry of a plugin without downloading it; its `sha256` stays None.

        `table` is of the model that the plugin is for: its facts are judged against it.

        Raises `UserError` for sources that float, or name nothing or several things.
        """
        try:
            reference = parse_reference(spec.source)
        except UserError as error:
            problems = [f"plugin {spec.id!r}: {problem}" for problem in error.problems]
            raise UserError.collect(problems) from error
        if reference is None:
            entry = _local(spec, *locate(spec), table)
        else:
            entry = self._source(reference).pin(spec, reference, self.session)
        return _with_expected(entry, spec)

    def fetch(self, entry: LockedPlugin, table: ModuleTable | None = None) -> LockedPlugin:
        """Ensure that all files are in the store; return the entry with the facts of the bytes.

        A complete entry is returned as it is. Raises `FetchError`.
        """
        if entry.origin.site == LOCAL:
            return entry
        reference = parse_reference(entry.source)
        if reference is None:
            raise UserError(
                f"plugin {entry.id!r}: no installed source downloads {entry.source!r}: install the "
                "package that brings it"
            )
        paths = self._source(reference).fetch(entry, self.session)
        if entry.is_complete:
            if entry.is_folder:
                self.session.store.put_tree({f.name: str(f.sha256) for f in entry.files})
            return entry
        return self._completed(entry, paths, table)

    def is_missing(self, entry: LockedPlugin) -> bool:
        """Return whether files of a plugin are missing in the store."""
        if entry.origin.site == LOCAL:
            return False
        return entry.sha256 is None or self.session.store.find(entry.sha256) is None

    def _source(self, reference: Reference) -> Source:
        return self.sources.get(reference.scheme) or find_source(reference.scheme)

    def _completed(
        self, entry: LockedPlugin, paths: list[Path], table: ModuleTable | None
    ) -> LockedPlugin:
        files = tuple(
            _filled(file, fingerprint(path)) for file, path in zip(entry.files, paths, strict=True)
        )
        hashes = {file.name: str(file.sha256) for file in files}
        sha256 = hashes[files[0].name]
        if len(files) > 1:
            _, sha256 = self.session.store.put_tree(hashes)
        known = {"files": files, "sha256": sha256, "weights": _weights(paths, table)}
        return entry.model_copy(update=known)


def open_supply(
    *,
    allow_hosts: Iterable[str] = (),
    progress: Progress = no_progress,
    store: Store | None = None,
) -> PluginFetcher:
    """Return a fetcher of the installed sources that contacts their hosts and `allow_hosts`."""
    rules = [rule for source in installed_network_sources().values() for rule in source.hosts]
    client = Client(allow=AllowList(tuple(rules)).with_hosts(allow_hosts))
    return PluginFetcher(Session(client, store or Store(), progress))


def _weights(paths: Iterable[Path], table: ModuleTable | None) -> object:
    found = (weights_of(path, table) for path in paths)
    return next((weights for weights in found if weights is not None), None)


def _filled(file: LockedFile, found: Fingerprint) -> LockedFile:
    return file.model_copy(update=asdict(found))


def _local(spec: PluginSpec, path: Path, sha256: str, table: ModuleTable | None) -> LockedPlugin:
    """Return the entry of a file or folder on this machine: complete at once.

    Files beside a file that are read with it are listed too.
    """
    inside = [path, *beside(path, spec.kind)]
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
    files = [
        LockedFile(
            name=f"file-{i}", source_name=source_name(file, path), **asdict(fingerprint(file))
        )
        for i, file in enumerate(inside)
    ]
    entry = draft_entry(spec, Origin(site=LOCAL), files)
    return entry.model_copy(update={"sha256": sha256, "weights": _weights(inside, table)})


def beside(path: Path, kind: str) -> list[Path]:
    """Return the files beside a plugin's file that are read with it."""
    return [
        file
        for side in side_files(path, kind)
        for file in (
            [side] if side.is_file() else sorted(p for p in side.rglob("*") if p.is_file())
        )
    ]


def source_name(file: Path, root: Path) -> str | None:
    """Return a file's place in a plugin's folder, or beside its file; None for the file itself."""
    if file == root:
        return None
    return file.relative_to(root if root.is_dir() else root.parent).as_posix()


def _with_expected(entry: LockedPlugin, spec: PluginSpec) -> LockedPlugin:
    """Take the manifest's sha256 as the expected one; `UserError` if the site's differs."""
    if spec.sha256 is None:
        return entry
    known = entry.sha256 or (entry.files[0].sha256 if len(entry.files) == 1 else None)
    if known is not None and known != spec.sha256:
        raise UserError(
            f"plugin {spec.id!r}: {spec.source} has sha256 {known}, the manifest has "
            f"{spec.sha256}: correct the manifest, or choose another file"
        )
    if len(entry.files) != 1 or entry.sha256 is not None:
        return entry
    file = entry.files[0].model_copy(update={"sha256": spec.sha256})
    return entry.model_copy(update={"files": (file,)})
