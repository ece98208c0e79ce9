"""The Hugging Face Hub: pinned commits, HF_ENDPOINT, HF_HOME, HF_TOKEN and offline mode as usual.

Requests go through huggingface_hub; setting HF_ENDPOINT marks that host as trusted. Files are
hashed again here, since huggingface_hub does not hash what it downloads.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from plugins_manifest.errors import FetchError, UserError, nearest_names
from plugins_manifest.files import file_sha256
from plugins_manifest.formats.peft_settings import FILE as PEFT_CONFIG
from plugins_manifest.http import HostRule, hub_errors_explained
from plugins_manifest.lock import LockedFile, LockedPlugin, Origin
from plugins_manifest.lock.lock import LockedLicense
from plugins_manifest.outputs import one_line
from plugins_manifest.schema import PluginSpec
from plugins_manifest.sources.base import SINGLE, Session, draft_entry
from plugins_manifest.sources.licenses import License
from plugins_manifest.store import Store
from plugins_manifest.text import shortened

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_ADDRESS = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<path>.*))?", re.ASCII
)
_CONFIG = "config.json"
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_ADAPTER = "adapter_model.safetensors"  # PEFT's; its scale is in the configuration beside it
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_ADULT_TAG = "not-for-all-audiences"
_MAIN = "main"
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class HubReference:
    """A file, or a folder (path "" or ending in "/"), of a repository at a revision."""

    scheme: ClassVar[str] = "hf"
    repository: str
    revision: str | None
    path: str

    @property
    def is_folder(self) -> bool:
        """Whether a folder of files is meant."""
        return self.path == "" or self.path.endswith("/")


@dataclass(frozen=True)
class HubFile:
    """One file of a repository at a commit; small files have Git's hash instead of a sha256."""

    name: str
    path: str
    size_bytes: int | None
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class HubPin:
    """The files of a `HubReference`, at a commit."""

    repository: str
    revision: str
    page: str
    files: tuple[HubFile, ...]
    license: License
    nsfw: bool


class Hub:
    """The Hub or its mirror at `endpoint` (default: HF_ENDPOINT); downloads go to its cache."""

    def __init__(self, *, endpoint: str | None = None, cache: Path | None = None) -> None:
        self._endpoint, self._cache = endpoint, cache

    def find(self, place: HubReference, *, what: str) -> HubPin:
        """Resolve a revision to its commit and a path to its files; `UserError` otherwise."""
        api = self._api()
        with hub_errors_explained(f"{what}: {_at(place.repository, place.revision)}"):
            info = api.model_info(
                place.repository, revision=place.revision or _MAIN, timeout=_TIMEOUT_SECONDS
            )
            tree = api.list_repo_tree(place.repository, revision=info.sha, recursive=True)
            files = {file.path: file for file in map(_hub_file, tree) if file is not None}
        card: Any = info.card_data
        license_name = card.get("license") if card is not None else None
        return HubPin(
            repository=place.repository,
            revision=str(info.sha),
            page=f"{api.endpoint}/{place.repository}",
            files=_choose(files, place, what),
            license=License(name=None if license_name is None else one_line(license_name)),
            nsfw=_ADULT_TAG in (info.tags or ()),
        )

    def fetch(self, pin: HubPin, file: HubFile, store: Store, *, what: str) -> tuple[Path, str]:
        """Ensure that a file is in the store; return its path and sha256. Uses the Hub's cache."""
        from huggingface_hub import hf_hub_download

        found = store.find(file.sha256) if file.sha256 else None
        if found is not None and file.sha256 is not None:
            return found, file.sha256
        store.need_room(file.size_bytes or 0, what=what)
        with hub_errors_explained(f"{what}: {_at(pin.repository, pin.revision)}"):
            cached = hf_hub_download(
                pin.repository,
                file.path,
                revision=pin.revision,
                endpoint=self._endpoint,
                cache_dir=self._cache,
                etag_timeout=_TIMEOUT_SECONDS,
            )
        return _keep(Path(cached), file, store, what)

    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self._endpoint)


@dataclass(frozen=True)
class HubSource:
    """The source of `hf:` addresses; huggingface_hub contacts the hosts."""

    hub: Hub = field(default_factory=Hub)
    name: str = "huggingface"
    hosts: tuple[HostRule, ...] = ()

    def parse(self, text: str) -> HubReference:
        """Parse hf://OWNER/REPOSITORY@COMMIT/PATH; `UserError` for anything else."""
        match = _ADDRESS.fullmatch(text)
        path = "" if match is None else match["path"] or ""
        words = path.rstrip("/").split("/") if path else []
        if match is None or any(word in ("", ".", "..") or "\\" in word for word in words):
            raise UserError(
                f"{text!r} is not an address on the Hub: write hf://OWNER/REPOSITORY@COMMIT/FILE, "
                "or FOLDER/ with a slash at the end"
            )
        return HubReference(match["repository"], match["revision"], path)

    def pin(self, spec: PluginSpec, reference: HubReference, session: Session) -> LockedPlugin:
        """Look up the commit, its files and the repository's license."""
        pin = self.hub.find(reference, what=f"plugin {spec.id!r}")
        origin = Origin(
            site=self.name, page=pin.page, repository=pin.repository, revision=pin.revision
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
        entry = draft_entry(spec, origin, files)
        named = {"license": LockedLicense(name=pin.license.name)} if pin.license.name else {}
        return entry.model_copy(update={**named, "nsfw": pin.nsfw or spec.nsfw})

    def fetch(self, entry: LockedPlugin, session: Session) -> list[Path]:
        """Download the files at the locked commit."""
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
        return [self.hub.fetch(pin, file, session.store, what=what)[0] for file in files]


def _at(repository: str, revision: str | None) -> str:
    return f"{repository}@{revision}" if revision else repository


def _keep(cached: Path, file: HubFile, store: Store, what: str) -> tuple[Path, str]:
    """Check a file of the cache, then add it to the store."""
    sha256 = file_sha256(cached)
    expected = file.sha256 or file.git_sha1
    found = sha256 if file.sha256 else (git_sha1(cached) if file.git_sha1 else None)
    if expected is not None and found != expected:
        raise FetchError(
            f"{what}: {file.path} in the Hub's cache ({cached}) has the hash {found} instead of "
            f"{expected}: delete that file and run the same command again",
            code="wrong-hash",
        )
    suffix = PurePosixPath(file.name).suffix
    if suffix == ".safetensors":
        from plugins_manifest.http.download import check_file

        check_file(cached, what=what)
    return store.copy_in(cached, sha256, suffix=suffix), sha256


def git_sha1(path: Path) -> str:
    """Return Git's hash of a file's content, which the Hub gives for files outside LFS."""
    content = path.read_bytes()
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def _hub_file(entry: Any) -> HubFile | None:
    """Convert an entry of a repository's tree; None for folders."""
    from huggingface_hub.hf_api import RepoFile

    if not isinstance(entry, RepoFile):
        return None
    return HubFile(
        name=PurePosixPath(entry.path).name,
        path=entry.path,
        size_bytes=entry.size,
        sha256=None if entry.lfs is None else entry.lfs.sha256,
        git_sha1=entry.blob_id if entry.lfs is None else None,
    )


def _choose(files: dict[str, HubFile], place: HubReference, what: str) -> tuple[HubFile, ...]:
    """Return the named file; of a folder its configuration and weights, else its safetensors."""
    if not place.is_folder:
        if place.path not in files:
            near = ", ".join(nearest_names(place.path, files))
            raise UserError(f"{what}: {place.repository} has no file {place.path!r}: use {near}")
        if not place.path.endswith(".safetensors"):
            raise UserError(
                f"{what}: {place.path!r} is not a safetensors file: name one, or download it, run: "
                "xbench plugins convert FILE NEW, and give the new file's path"
            )
        return _with_settings(files[place.path], files)
    inside = {
        path.removeprefix(place.path): file
        for path, file in files.items()
        if path.startswith(place.path) and "/" not in path.removeprefix(place.path)
    }
    weights = sorted(name for name in inside if name.endswith(".safetensors"))
    if PEFT_CONFIG in inside and (_ADAPTER in weights or len(weights) == 1):
        kept = inside[_ADAPTER if _ADAPTER in weights else weights[0]]
        return inside[PEFT_CONFIG], replace(kept, name=_ADAPTER)
    if _CONFIG in inside and weights:
        best = _best_weights(weights, place, what)
        kept = inside[best]
        return inside[_CONFIG], replace(kept, name=_WEIGHTS)
    if len(weights) == 1:
        return (inside[weights[0]],)
    pickles = sorted(name for name in inside if name.endswith(_PICKLED))
    if pickles and not weights:
        raise UserError(
            f"{what}: {place.repository}/{place.path} has its weights only as pickles "
            f"({_named(pickles)}): download one, run: xbench plugins convert FILE NEW, give the "
            "new file's path"
        )
    raise UserError(
        f"{what}: {place.repository}/{place.path} contains {_named(weights or sorted(inside))}: "
        "name one safetensors file, e.g. "
        f"hf://{place.repository}@{place.revision or 'COMMIT'}/{place.path}FILE.safetensors"
    )


def _with_settings(file: HubFile, files: Mapping[str, HubFile]) -> tuple[HubFile, ...]:
    """Return a named file, behind PEFT's settings where they are beside it: they hold its scale."""
    settings = files.get(str(PurePosixPath(file.path).with_name(PEFT_CONFIG)))
    return (file,) if file.name != _ADAPTER or settings is None else (settings, file)


def _best_weights(weights: Sequence[str], place: HubReference, what: str) -> str:
    for name in (_WEIGHTS, "diffusion_pytorch_model.fp16.safetensors"):
        if name in weights:
            return name
    if len(weights) > 1:
        raise UserError(
            f"{what}: {place.repository}/{place.path} contains {_named(weights)}: name one of them"
        )
    return weights[0]


def _named(names: Sequence[str]) -> str:
    return shortened([repr(one_line(name, longest=80)) for name in names], 6) or "no files"


HUB = HubSource()
