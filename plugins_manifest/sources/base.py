"""What a site that plugins come from implements: parse its addresses, pin them, fetch the files.

A new site is one module with a `Source` and one entry point of group `xbench.sources`, named after
the scheme of its addresses. Sources are imported to validate manifests, so the modules import the
HTTP layer only where they use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.http import HostRule, Token
from plugins_manifest.lock import LockedFile, LockedPlugin, Origin
from plugins_manifest.lock.lock import LockedLicense
from plugins_manifest.schema import PluginSpec
from plugins_manifest.schema.references import Reference, find_source, installed_sources
from plugins_manifest.store import Store

if TYPE_CHECKING:
    from plugins_manifest.http import Client, Progress
    from plugins_manifest.lock.file_facts import Fingerprint

SINGLE = "file.safetensors"


@dataclass(frozen=True)
class Session:
    """The client, store and progress display that one command fetches with."""

    client: Client
    store: Store
    progress: Progress


class Source(Protocol):
    """A site on the network.

    `name` is the site in lock files; `hosts` are the hosts that it downloads from by itself.
    """

    @property
    def name(self) -> str: ...

    @property
    def hosts(self) -> tuple[HostRule, ...]: ...

    def parse(self, text: str) -> Reference:
        """Parse a manifest's `source` without network; `UserError` for what it cannot name."""
        ...

    def pin(self, spec: PluginSpec, reference: Any, session: Session) -> LockedPlugin:
        """Look a plugin up without downloading it; the entry's `sha256` stays None."""
        ...

    def fetch(self, entry: LockedPlugin, session: Session) -> list[Path]:
        """Ensure that all files of an entry are in the store; return their paths in its order."""
        ...


def installed_network_sources() -> dict[str, Source]:
    """Import all installed network sources, by scheme."""
    found = {scheme: find_source(scheme) for scheme in installed_sources()}
    return {scheme: source for scheme, source in found.items() if hasattr(source, "parse")}


def draft_entry(spec: PluginSpec, origin: Origin, files: Iterable[LockedFile]) -> LockedPlugin:
    """Return a lock entry with what the manifest states."""
    return LockedPlugin(
        id=spec.id,
        source=spec.source,
        kind=spec.kind,
        origin=origin,
        files=tuple(files),
        license=LockedLicense(name=spec.license),
        nsfw=spec.nsfw,
    )


def only_file(entry: LockedPlugin) -> LockedFile:
    """Return the file of an entry for one file; `UserError` for any other number."""
    if len(entry.files) != 1:
        raise UserError(f"plugin {entry.id!r}: its lock must name one file: lock it again")
    return entry.files[0]


def fetch_url(
    entry: LockedPlugin,
    session: Session,
    *,
    url: str | None = None,
    fallback_url: str | None = None,
    token: Token | None = None,
) -> Path:
    """Ensure that the one file of an entry is in the store, from its own address or `url`."""
    from plugins_manifest.http import Wanted, fetch
    from plugins_manifest.lock import fingerprint

    file = only_file(entry)
    url = url or file.url
    if url is None:
        raise UserError(f"plugin {entry.id!r}: its lock has no address: lock it again")
    wanted = Wanted(
        f"plugin {entry.id!r}",
        url,
        fallback_url=fallback_url if fallback_url != url else None,
        sha256=file.sha256,
        # Before the first download the size is only what the site states.
        size_bytes=file.size_bytes if entry.is_complete else None,
        declared_bytes=file.size_bytes,
        token=token,
    )
    stored = fetch(
        session.client,
        session.store,
        wanted,
        progress=session.progress,
        on_mismatch=lambda path, sha256: _mismatch(entry, file, fingerprint(path)),
    )
    return stored.path


def _mismatch(entry: LockedPlugin, file: LockedFile, found: Fingerprint) -> FetchError:
    """Return the error for a whole file of another sha256 than locked."""
    from plugins_manifest.lock.file_facts import same_weights

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
