"""From a manifest's source to checked bytes in the store: first what is known, then the files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from plugins_manifest.errors import UserError
from plugins_manifest.fetch_errors import FetchError
from plugins_manifest.http.client import Client
from plugins_manifest.http.download import Progress, Wanted, fetch, no_progress
from plugins_manifest.http.guard import AllowList
from plugins_manifest.lock.file_facts import Fingerprint, fingerprint, same_weights, weights_of
from plugins_manifest.lock.lock import LockedFile, LockedLicense, LockedPlugin, Origin
from plugins_manifest.schema.air import Air
from plugins_manifest.schema.manifest import PluginSpec
from plugins_manifest.schema.references import HubReference, WebFile, parse_reference
from plugins_manifest.sources.civitai import Civitai, CivitaiFile, token_from_environment
from plugins_manifest.sources.hub import Hub, HubFile, HubPin
from plugins_manifest.sources.licenses import License
from plugins_manifest.store import Store

SINGLE = "file.safetensors"
# The path and sha256 of a source that lies on this machine.
Locate = Callable[[PluginSpec], tuple[Path, str]]


@dataclass(frozen=True)
class PluginFetcher:
    """Every place that plugins come from; the tests give it servers of their own."""

    client: Client
    civitai: Civitai
    hub: Hub
    store: Store
    progress: Progress = no_progress

    def resolve(self, spec: PluginSpec, locate: Locate) -> LockedPlugin:
        """What is known of a plugin without downloading it; its `sha256` stays None.

        Raises `UserError` for sources that float, name nothing or several things.
        """
        what = f"plugin {spec.id!r}"
        try:
            reference = parse_reference(spec.source)
        except UserError as error:
            raise UserError.collect([f"{what}: {p}" for p in error.problems]) from error
        if isinstance(reference, Air):
            entry = _from_civitai(spec, self.civitai.find(reference, what=what))
        elif isinstance(reference, HubReference):
            entry = _from_hub(spec, self.hub.find(reference, what=what))
        elif isinstance(reference, WebFile):
            entry = _draft(spec, Origin(site="https"), [LockedFile(name=SINGLE, url=reference.url)])
        else:
            entry = _local(spec, *locate(spec))
        return _with_expected(entry, spec)

    def fetch(self, entry: LockedPlugin) -> LockedPlugin:
        """Have all files in the store; the entry with everything that the bytes tell.

        An entry that is complete already comes back as it is. Raises `FetchError`.
        """
        if entry.origin.site == "local":
            return entry
        if entry.origin.site == "huggingface":
            paths = self._from_hub(entry)
        else:
            paths = [self._download(entry)]
        if entry.is_complete:
            if entry.is_folder:
                self.store.put_tree({f.name: str(f.sha256) for f in entry.files})
            return entry
        return self._completed(entry, paths)

    def missing(self, entry: LockedPlugin) -> bool:
        """Whether files of a plugin are not in the store."""
        if entry.origin.site == "local":
            return False
        return entry.sha256 is None or self.store.find(entry.sha256) is None

    def _download(self, entry: LockedPlugin) -> Path:
        if len(entry.files) != 1:
            raise UserError(f"plugin {entry.id!r}: its lock must name one file: lock it again")
        (file,) = entry.files
        wanted = self._wanted(entry, file)

        def explain(path: Path, sha256: str) -> FetchError:
            return _changed(entry, file, fingerprint(path))

        try:
            stored = fetch(
                self.client, self.store, wanted, progress=self.progress, on_mismatch=explain
            )
        except FetchError as error:
            elsewhere = self._elsewhere(entry, file) if error.code in ("gone", "missing") else None
            if elsewhere is None:
                raise
            mirror = replace(wanted, url=elsewhere, fallback_url=None)
            stored = fetch(self.client, self.store, mirror, progress=self.progress)
        return stored.path

    def _wanted(self, entry: LockedPlugin, file: LockedFile) -> Wanted:
        if file.url is None:
            raise UserError(f"plugin {entry.id!r}: its lock has no address: lock it again")
        is_civitai, origin = entry.origin.site == "civitai", entry.origin
        fallback_url = None
        if is_civitai and origin.version_id is not None:
            fallback_url = self.civitai.download_url(origin.version_id, origin.file_id)
        # Before the first download the size is only what the site's page says.
        return Wanted(
            f"plugin {entry.id!r}",
            file.url,
            fallback_url=fallback_url if fallback_url != file.url else None,
            sha256=file.sha256,
            size_bytes=file.size_bytes if entry.is_complete else None,
            declared_bytes=file.size_bytes,
            token=self.civitai.token if is_civitai else None,
        )

    def _elsewhere(self, entry: LockedPlugin, file: LockedFile) -> str | None:
        """Another version with the same bytes, for a file that is gone."""
        if entry.origin.version_id is None or file.sha256 is None:
            return None
        return self.civitai.same_file(
            file.sha256, but_not=entry.origin.version_id, what=f"plugin {entry.id!r}"
        )

    def _from_hub(self, entry: LockedPlugin) -> list[Path]:
        origin, what = entry.origin, f"plugin {entry.id!r}"
        files = tuple(
            HubFile(f.name, f.source_name or f.name, f.size_bytes, f.sha256, f.git_sha1)
            for f in entry.files
        )
        if origin.repository is None or origin.revision is None:
            raise UserError(f"{what}: its lock names no commit: lock it again")
        pin = HubPin(
            origin.repository, origin.revision, origin.page or "", files, License(), nsfw=False
        )
        return [self.hub.fetch(pin, file, self.store, what=what)[0] for file in files]

    def _completed(self, entry: LockedPlugin, paths: list[Path]) -> LockedPlugin:
        files = tuple(
            _filled(file, fingerprint(path)) for file, path in zip(entry.files, paths, strict=True)
        )
        hashes = {file.name: str(file.sha256) for file in files}
        sha256 = hashes[files[0].name]
        if len(files) > 1:
            _, sha256 = self.store.put_tree(hashes)
        known = {"files": files, "sha256": sha256, "weights": _weights(paths)}
        return entry.model_copy(update=known)


def open_supply(
    *,
    allow_hosts: Iterable[str] = (),
    progress: Progress = no_progress,
    store: Store | None = None,
) -> PluginFetcher:
    """The real sites, with the token of the environment."""
    client = Client(allow=AllowList().with_hosts(allow_hosts))
    civitai = Civitai(client, token=token_from_environment())
    return PluginFetcher(client, civitai, Hub(), store or Store(), progress)


def _weights(paths: Iterable[Path]) -> object:
    found = (weights_of(path) for path in paths if path.suffix == ".safetensors")
    return next((weights for weights in found if weights is not None), None)


def _filled(file: LockedFile, found: Fingerprint) -> LockedFile:
    return file.model_copy(update=asdict(found))


def _draft(spec: PluginSpec, origin: Origin, files: Iterable[LockedFile]) -> LockedPlugin:
    return LockedPlugin(
        id=spec.id,
        source=spec.source,
        kind=spec.kind,
        origin=origin,
        files=tuple(files),
        license=LockedLicense(name=spec.license),
        nsfw=spec.nsfw,
    )


def _from_civitai(spec: PluginSpec, found: CivitaiFile) -> LockedPlugin:
    origin = Origin(
        site="civitai",
        page=found.page,
        air=str(found.air),
        model_id=found.model_id,
        version_id=found.version_id,
        file_id=found.file_id,
        model_name=found.model_name,
        version_name=found.version_name,
    )
    file = LockedFile(
        name=SINGLE,
        source_name=found.file_name,
        url=found.url,
        size_bytes=found.declared_bytes,
        sha256=found.sha256,
    )
    return _draft(spec, origin, [file]).model_copy(
        update={
            "declared_base_model": found.declared_base_model,
            "trigger_words": found.trigger_words,
            "license": LockedLicense(**asdict(found.license)),
            "nsfw": spec.nsfw if found.nsfw is None else found.nsfw,
        }
    )


def _from_hub(spec: PluginSpec, pin: HubPin) -> LockedPlugin:
    origin = Origin(
        site="huggingface", page=pin.page, repository=pin.repository, revision=pin.revision
    )
    is_single = len(pin.files) == 1
    files = [
        LockedFile(
            name=SINGLE if is_single else file.name,
            source_name=file.path,
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            git_sha1=file.git_sha1,
        )
        for file in pin.files
    ]
    entry = _draft(spec, origin, files)
    named = {"license": LockedLicense(name=pin.license.name)} if pin.license.name else {}
    return entry.model_copy(update={**named, "nsfw": pin.nsfw or spec.nsfw})


def _local(spec: PluginSpec, path: Path, sha256: str) -> LockedPlugin:
    """An entry of a file or folder on this machine: complete at once."""
    inside = [path]
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
    files = [
        LockedFile(name=f"file-{i}", source_name=_relative(file, path), **asdict(fingerprint(file)))
        for i, file in enumerate(inside)
    ]
    entry = _draft(spec, Origin(site="local"), files)
    return entry.model_copy(update={"sha256": sha256, "weights": _weights(inside)})


def _relative(file: Path, root: Path) -> str | None:
    return None if file == root else file.relative_to(root).as_posix()


def _with_expected(entry: LockedPlugin, spec: PluginSpec) -> LockedPlugin:
    """Take the manifest's sha256 as the one to expect; `UserError` where the site's differs."""
    if spec.sha256 is None:
        return entry
    known = entry.sha256 or (entry.files[0].sha256 if len(entry.files) == 1 else None)
    if known is not None and known != spec.sha256:
        raise UserError(
            f"plugin {spec.id!r}: {spec.source} has sha256 {known}, the manifest says "
            f"{spec.sha256}: correct the manifest, or choose another file"
        )
    if len(entry.files) != 1 or entry.sha256 is not None:
        return entry
    file = entry.files[0].model_copy(update={"sha256": spec.sha256})
    return entry.model_copy(update={"files": (file,)})


def _changed(entry: LockedPlugin, file: LockedFile, found: Fingerprint) -> FetchError:
    """What a whole file of another sha256 than locked means."""
    if same_weights(file, found):
        text = "metadata changed, weights identical: its header was rewritten at the source"
    elif file.tensors_sha256 is not None and found.tensors_sha256 is not None:
        text = "weights changed: another file was uploaded in its place"
    else:
        text = "the file is not the one that was announced, or was damaged on the way"
    return FetchError(
        f"plugin {entry.id!r}: {text} (sha256 {found.sha256} instead of {file.sha256}): run the "
        "same command again, or pin the new file with: xbench plugins lock --update",
        code="wrong-hash",
    )
