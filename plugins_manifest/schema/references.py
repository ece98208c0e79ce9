"""What a manifest's `source` names: a path, or an address of an installed source.

Sources are entry points of group `xbench.sources`, by the scheme of their addresses. Those that can
`parse` are on the network; the others locate files of this machine.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any, ClassVar, Protocol

from plugins_manifest.errors import UserError
from plugins_manifest.installed import installed, load_entry, require_members


class Reference(Protocol):
    """A parsed address; the source of its `scheme` pins and fetches it."""

    scheme: ClassVar[str]


class NetworkSource(Protocol):
    """What a source on the network has; `plugins_manifest.sources.Source` has the types."""

    name: Any
    hosts: Any

    def parse(self, text: str) -> Reference: ...
    def pin(self, spec: Any, reference: Any, session: Any) -> Any: ...
    def fetch(self, entry: Any, session: Any) -> Any: ...


class LocalSource(Protocol):
    """What a source of files of this machine has."""

    def locate(self, source: str, *, folder: Any) -> Any: ...


def installed_sources() -> dict[str, EntryPoint]:
    """Return the entry points of sources by scheme; imports nothing."""
    return installed("sources")


def find_source(scheme: str) -> Any:
    """Import the source of a scheme; `UserError` if none is installed or it is broken."""
    found = load_entry("sources", scheme)
    is_network = hasattr(found, "parse")
    require_members("sources", scheme, found, NetworkSource if is_network else LocalSource)
    return found


def network_source(source: str) -> Any | None:
    """Return the network source of a manifest's `source`; None for files of this machine."""
    scheme = scheme_of(source)
    if scheme is None or scheme not in installed_sources():
        return None
    found = find_source(scheme)
    return found if hasattr(found, "parse") else None


def is_network(source: str) -> bool:
    """Return whether a source is downloaded, rather than located on this machine."""
    return network_source(source) is not None


def scheme_of(source: str) -> str | None:
    """Return what precedes the colon, in lower case; None for paths (C:/x is one too)."""
    scheme, colon, _ = source.partition(":")
    is_path = not colon or "/" in scheme or len(scheme) == 1
    return None if is_path else scheme.lower()


def parse_reference(source: str) -> Reference | None:
    """Parse a network address; None for files of this machine. Raises `UserError`."""
    if scheme_of(source) == "http":
        raise UserError(f"{source!r} is not encrypted: only https addresses are fetched")
    found = network_source(source)
    return None if found is None else found.parse(source)
