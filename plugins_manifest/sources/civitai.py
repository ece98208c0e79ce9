"""Civitai's public REST API, as far as pinning and downloading a version needs it.

Endpoints and fields: Civitai's developer documentation (2026-08-07). Labels such as `baseModel` are
set by the uploader and only recorded; `pickleScanResult` is meaningless for safetensors and unread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.http import HostRule, Token
from plugins_manifest.lock import LockedFile, LockedPlugin, Origin
from plugins_manifest.lock.lock import LockedLicense
from plugins_manifest.outputs import one_line
from plugins_manifest.schema import PluginSpec
from plugins_manifest.schema.air import Air, parse_air, pinned_air
from plugins_manifest.schema.references import Reference
from plugins_manifest.sources.base import SINGLE, Session, draft_entry, fetch_url, only_file
from plugins_manifest.sources.hub import HubReference
from plugins_manifest.sources.licenses import License, civitai_license

if TYPE_CHECKING:
    from plugins_manifest.http import Client

BASE_URL = "https://civitai.com"
TOKEN_NAMES = ("CIVITAI_TOKEN", "CIVITAI_API_TOKEN", "CIVITAI_API_KEY")
_MAX_TRIGGERS = 100
_NOT_PLUGINS = {"training data", "config", "vae", "archive"}
_DOWNLOAD_KEYS = {"type", "format", "size", "fp", "fileId"}
LOGIN = "create an API key of Civitai under Account > API keys, and set CIVITAI_TOKEN to it"


def _site_rules(domain: str) -> list[HostRule]:
    return [HostRule(host, gets_token=True, login=LOGIN) for host in (domain, f".{domain}")]


# Civitai redirects downloads to signed addresses on civitai-delivery-worker-prod.ACCOUNT.r2.
# cloudflarestorage.com (see civitai/civitai issue 2113, vast-ai/base-image pull request 215) or on
# b2.civitai.com, which is below its own domain: the token is dropped there too, since the host is
# another. A storage host that is missing here ends with a message that names --allow-host.
HOSTS = (
    *_site_rules("civitai.com"),
    *_site_rules("civitai.red"),
    *_site_rules("civitai.green"),
    HostRule(".r2.cloudflarestorage.com"),
)


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Model(_Row):
    name: str = ""
    type: str = ""
    nsfw: bool | None = None


class _File(_Row):
    id: int
    name: str = ""
    type: str = ""
    sizeKB: float | None = None  # noqa: N815 (the API's spelling)
    metadata: dict[str, Any] | None = None
    hashes: dict[str, str | None] = {}
    downloadUrl: str | None = None  # noqa: N815


class _Version(_Row):
    id: int
    modelId: int  # noqa: N815
    name: str = ""
    baseModel: str | None = None  # noqa: N815
    usageControl: str | None = None  # noqa: N815
    trainedWords: list[str] | None = None  # noqa: N815
    model: _Model | None = None
    files: list[_File] = []


@dataclass(frozen=True)
class CivitaiFile:
    """One pinned file of a version, with the facts of its model's page.

    `sha256` is the one that Civitai states, if any; `declared_bytes` is rounded.
    """

    air: Air
    model_id: int
    version_id: int
    file_id: int
    model_name: str
    version_name: str
    file_name: str
    url: str
    page: str
    sha256: str | None
    declared_bytes: int | None
    declared_base_model: str | None
    trigger_words: tuple[str, ...]
    license: License
    nsfw: bool | None


def token_from_environment() -> Token | None:
    """Return the token of the first of the three variables in use that is set."""
    for name in TOKEN_NAMES:
        value = os.environ.get(name, "").strip()
        if value:
            return Token(value)
    return None


class Civitai:
    """Client of the site's API; metadata is requested without the token."""

    def __init__(
        self, client: Client, *, base_url: str = BASE_URL, token: Token | None = None
    ) -> None:
        self.base_url, self.token = base_url.rstrip("/"), token
        self._client = client

    def find(self, air: Air, *, what: str) -> CivitaiFile:
        """Return the one file that a pinned AIR names.

        Raises `UserError` if it names none or several, `FetchError` if the site refuses.
        """
        version = self._version(f"model-versions/{air.version}", what=what)
        if str(version.modelId) != air.id:
            raise UserError(
                f"{what}: version {air.version} belongs to model {version.modelId}, not to "
                f"{air.id}: write {_with(air, id=str(version.modelId))}"
            )
        if (version.usageControl or "Download") != "Download":
            raise FetchError(
                f"{what}: skipped:gated: its creator allows use on the site only "
                f"({one_line(version.usageControl, longest=40)}): remove the plugin",
                code="gated",
            )
        model = self._get(f"models/{version.modelId}", what=what)
        _check_mode(model, what)
        file = _choose(version.files, air, what)
        return self._pinned(air, version, model, file)

    def same_file(self, sha256: str, *, but_not: int, what: str) -> str | None:
        """Return a download address of another version with the same bytes, if any."""
        try:
            version = self._version(f"model-versions/by-hash/{sha256}", what=what)
        except FetchError:
            return None
        for file in version.files:
            if version.id != but_not and _sha256(file) == sha256:
                return self.download_url(version.id, file.id)
        return None

    def download_url(self, version_id: int, file_id: int | None = None) -> str:
        """Return the address that redirects to the file; with `file_id` it needs no filters."""
        query = f"?fileId={file_id}" if file_id is not None else ""
        return f"{self.base_url}/api/download/models/{version_id}{query}"

    def _get(self, path: str, *, what: str) -> dict[str, Any]:
        """Return an object of the API; the token is sent only after a refusal without it."""
        url = f"{self.base_url}/api/v1/{path}"
        try:
            return self._client.get_json(url, what=what)
        except FetchError as error:
            if error.code != "needs-token" or self.token is None:
                raise
        return self._client.get_json(url, what=what, token=self.token)

    def _version(self, path: str, *, what: str) -> _Version:
        data = self._get(path, what=what)
        try:
            return _Version.model_validate(data)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors()[:5])
            raise FetchError(
                f"{what}: unexpected response of Civitai ({fields}): update xbench", code="refused"
            ) from error

    def _pinned(
        self, air: Air, version: _Version, model: Mapping[str, Any], file: _File
    ) -> CivitaiFile:
        nsfw = model.get("nsfw")
        return CivitaiFile(
            air=_with(air, file_id=str(file.id)),
            model_id=version.modelId,
            version_id=version.id,
            file_id=file.id,
            model_name=one_line(model.get("name") or ""),
            version_name=one_line(version.name),
            file_name=one_line(file.name),
            url=self._given_url(file) or self.download_url(version.id, file.id),
            page=f"{self.base_url}/models/{version.modelId}?modelVersionId={version.id}",
            sha256=_sha256(file),
            declared_bytes=None if file.sizeKB is None else round(file.sizeKB * 1024),
            declared_base_model=None if not version.baseModel else one_line(version.baseModel),
            trigger_words=split_words(version.trainedWords or ()),
            license=civitai_license(model),
            nsfw=nsfw if isinstance(nsfw, bool) else None,
        )

    def _given_url(self, file: _File) -> str | None:
        """Return the API's own download address if it is on this site, with known filters only."""
        if not file.downloadUrl:
            return None
        parts = urlsplit(urljoin(self.base_url, file.downloadUrl))
        if parts.netloc != urlsplit(self.base_url).netloc:
            return None
        query = [(key, value) for key, value in parse_qsl(parts.query) if key in _DOWNLOAD_KEYS]
        filters = f"?{urlencode(query)}" if query else ""
        return f"{self.base_url}{parts.path}{filters}"


@dataclass(frozen=True)
class CivitaiSource:
    """The source of AIRs (`urn:`); those that name the Hub go there."""

    base_url: str = BASE_URL
    token: Callable[[], Token | None] = token_from_environment
    name: str = "civitai"
    hosts: tuple[HostRule, ...] = HOSTS

    def parse(self, text: str) -> Reference:
        """Parse a pinned AIR of Civitai or of the Hub; `UserError` for any other."""
        air = pinned_air(text)
        if air.source == "huggingface":
            return HubReference(air.id, air.version, "")
        if air.source != self.name:
            raise UserError(
                f"{air} names the source {air.source!r}: use civitai or huggingface, or give the "
                "file's address or path"
            )
        return air

    def pin(self, spec: PluginSpec, reference: Air, session: Session) -> LockedPlugin:
        """Look up the version, its file and its model's license."""
        found = self._api(session).find(reference, what=f"plugin {spec.id!r}")
        origin = Origin(
            site=self.name,
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
        facts = {
            "declared_base_model": found.declared_base_model,
            "trigger_words": found.trigger_words,
            "license": LockedLicense(**asdict(found.license)),
            "nsfw": spec.nsfw if found.nsfw is None else found.nsfw,
        }
        return draft_entry(spec, origin, [file]).model_copy(update=facts)

    def fetch(self, entry: LockedPlugin, session: Session) -> list[Path]:
        """Download the file; one that is gone is looked up by its hash in other versions."""
        api, version_id = self._api(session), entry.origin.version_id
        fallback_url = None
        if version_id is not None:
            fallback_url = api.download_url(version_id, entry.origin.file_id)
        try:
            return [fetch_url(entry, session, fallback_url=fallback_url, token=api.token)]
        except FetchError as error:
            sha256 = only_file(entry).sha256
            if error.code not in ("gone", "missing") or version_id is None or sha256 is None:
                raise
            url = api.same_file(sha256, but_not=version_id, what=f"plugin {entry.id!r}")
            if url is None:
                raise
        return [fetch_url(entry, session, url=url, token=api.token)]

    def _api(self, session: Session) -> Civitai:
        return Civitai(session.client, base_url=self.base_url, token=self.token())


def split_words(words: Sequence[str]) -> tuple[str, ...]:
    """Split trigger words, which some uploaders join with commas."""
    parts = (one_line(part) for word in words for part in word.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))[:_MAX_TRIGGERS]


def _with(air: Air, **changed: str) -> Air:
    return parse_air(str(Air(**{**vars(air), **changed})))


def _sha256(file: _File) -> str | None:
    value = (file.hashes.get("SHA256") or "").lower()
    is_hash = len(value) == 64 and set(value) <= set("0123456789abcdef")
    return value if is_hash else None


def _check_mode(model: Mapping[str, Any], what: str) -> None:
    mode = model.get("mode")
    if mode in ("Archived", "TakenDown"):
        raise FetchError(
            f"{what}: gone: the model is {mode} on the site: give the path of a copy as the "
            "plugin's source, with the same sha256",
            code="gone",
            remedy="mirror",
        )


def _is_safetensors(file: _File) -> bool:
    declared = (file.metadata or {}).get("format")
    return declared == "SafeTensor" or file.name.lower().endswith(".safetensors")


def _choose(files: Sequence[_File], air: Air, what: str) -> _File:
    if air.file_id is not None:
        chosen = [file for file in files if str(file.id) == air.file_id]
    else:
        weights = [file for file in files if file.type.lower() not in _NOT_PLUGINS]
        chosen = [file for file in weights if _is_safetensors(file)]
        if not chosen and weights:
            raise UserError(
                f"{what}: {air} has no safetensors file, only {_listed(weights)}: download it "
                "yourself, run: xbench plugins convert FILE NEW, and give the new file's path"
            )
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        had = f"it has {_listed(files)}" if files else "it lists no files"
        raise UserError(f"{what}: {air} names no file of its version ({had}): check the ids")
    raise UserError(
        f"{what}: {air} has {len(chosen)} files ({_listed(chosen)}): name one, e.g. "
        f"{_with(air, file_id=str(chosen[0].id))}"
    )


def _listed(files: Sequence[_File]) -> str:
    return ", ".join(f"+{file.id} {one_line(file.name, longest=60)!r}" for file in files[:6])


CIVITAI = CivitaiSource()
