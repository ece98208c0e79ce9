"""What a manifest's `source` names: an AIR, a place on the Hugging Face Hub, a web file, a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from plugins_manifest.errors import UserError
from plugins_manifest.schema.air import Air, pinned_air

NETWORK_SCHEMES = ("urn", "hf", "https")
_HUB = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<path>.*))?", re.ASCII
)
_SECRET_KEYS = re.compile(r"(?i)x-amz-.*|.*token.*|.*signature.*|sig|api_?key|policy|key-pair-id")


@dataclass(frozen=True)
class HubReference:
    """A file, a folder (path "" or ending in "/") of a Hub repository, at a revision."""

    repository: str
    revision: str | None
    path: str

    @property
    def is_folder(self) -> bool:
        """Whether a folder of files is meant."""
        return self.path == "" or self.path.endswith("/")


@dataclass(frozen=True)
class WebFile:
    """A file at an https address."""

    url: str


Reference = Air | HubReference | WebFile


def is_network(source: str) -> bool:
    """Whether a source is fetched from somewhere, rather than found on this machine."""
    return source.partition(":")[0].lower() in NETWORK_SCHEMES


def scheme_of(source: str) -> str | None:
    """What stands before the colon, in lower case; None for paths (C:/x is one too)."""
    scheme, colon, _ = source.partition(":")
    is_path = not colon or "/" in scheme or len(scheme) == 1
    return None if is_path else scheme.lower()


def parse_reference(source: str) -> Reference | None:
    """What a source names; None for paths and schemes of extensions. Raises `UserError`."""
    scheme = scheme_of(source)
    if scheme == "urn":
        return _from_air(pinned_air(source))
    if scheme == "hf":
        return _hub_place(source)
    if scheme == "https":
        return _web_file(source)
    if scheme == "http":
        raise UserError(f"{source!r} is not encrypted: only https addresses are fetched")
    return None


def _from_air(air: Air) -> Reference:
    if air.source == "huggingface":
        return HubReference(air.id, air.version, "")
    if air.source != "civitai":
        raise UserError(
            f"{air} names the source {air.source!r}: use civitai or huggingface, or give the "
            "file's address or path"
        )
    return air


def _hub_place(source: str) -> HubReference:
    match = _HUB.fullmatch(source)
    path = "" if match is None else match["path"] or ""
    words = path.rstrip("/").split("/") if path else []
    if match is None or any(word in ("", ".", "..") or "\\" in word for word in words):
        raise UserError(
            f"{source!r} is no place on the Hub: write hf://OWNER/REPOSITORY@COMMIT/FILE, or "
            "FOLDER/ with a slash at the end"
        )
    return HubReference(match["repository"], match["revision"], path)


def _web_file(source: str) -> WebFile:
    secrets = [key for key, _ in parse_qsl(urlsplit(source).query) if _SECRET_KEYS.fullmatch(key)]
    if secrets or urlsplit(source).username:
        named = ", ".join(secrets) or "a user name"
        raise UserError(
            f"the address on {urlsplit(source).hostname} holds a secret ({named}), which does not "
            "belong in a manifest: leave it out, or download the file and give its path"
        )
    return WebFile(source)
