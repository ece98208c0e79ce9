"""The Hugging Face Hub: pinned commits, HF_ENDPOINT, HF_HOME, HF_TOKEN and offline mode as usual.

huggingface_hub does the talking; a host named in HF_ENDPOINT is trusted by that act. Whatever it
hands over is hashed again here, since it does not hash what it downloads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from plugins_manifest.errors import UserError, nearest_names
from plugins_manifest.fetch_errors import FetchError
from plugins_manifest.http.fetch_check import check_file
from plugins_manifest.http.hub_errors import hub_errors_explained
from plugins_manifest.redact import one_line
from plugins_manifest.schema.references import HubReference
from plugins_manifest.sources.licenses import License
from plugins_manifest.store import Store, sha256_of_file

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_CONFIG = "config.json"
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_ADULT_TAG = "not-for-all-audiences"
_MAIN = "main"
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class HubFile:
    """One file of a repository at a commit; small files have no sha256, but Git's own hash."""

    name: str
    path: str
    size_bytes: int | None
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class HubPin:
    """The files that a place on the Hub means, at a commit."""

    repository: str
    revision: str
    page: str
    files: tuple[HubFile, ...]
    license: License
    nsfw: bool


class Hub:
    """The Hub, or its mirror at `endpoint` (default: HF_ENDPOINT); downloads go to its cache."""

    def __init__(self, *, endpoint: str | None = None, cache: Path | None = None) -> None:
        self._endpoint, self._cache = endpoint, cache

    def find(self, place: HubReference, *, what: str) -> HubPin:
        """Resolve a revision to its commit and a place to its files; `UserError` otherwise."""
        api = self._api()
        with hub_errors_explained(what, place.repository, place.revision):
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
        """Have a file in the store; its path and sha256. A file of the cache is not asked again."""
        from huggingface_hub import hf_hub_download

        found = store.find(file.sha256) if file.sha256 else None
        if found is not None and file.sha256 is not None:
            return found, file.sha256
        store.need_room(file.size_bytes or 0, what=what)
        with hub_errors_explained(what, pin.repository, pin.revision):
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


def _keep(cached: Path, file: HubFile, store: Store, what: str) -> tuple[Path, str]:
    """Check a file of the cache, then take it into the store."""
    sha256 = sha256_of_file(cached)
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
        check_file(cached, what=what)
    return store.copy_in(cached, sha256, suffix=suffix), sha256


def git_sha1(path: Path) -> str:
    """Git's hash of a file's content, which the Hub gives for files outside LFS."""
    content = path.read_bytes()
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


def _hub_file(entry: Any) -> HubFile | None:
    """An entry of a repository's tree; None for folders."""
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
    """The named file; or of a folder, config.json and the weights, else its one safetensors."""
    if not place.is_folder:
        if place.path not in files:
            near = ", ".join(nearest_names(place.path, files))
            raise UserError(f"{what}: {place.repository} has no file {place.path!r}: use {near}")
        if not place.path.endswith(".safetensors"):
            raise UserError(
                f"{what}: {place.path!r} is no safetensors file: name one, or download it, run: "
                "xbench plugins convert FILE NEW, and give the new file's path"
            )
        return (files[place.path],)
    inside = {
        path.removeprefix(place.path): file
        for path, file in files.items()
        if path.startswith(place.path) and "/" not in path.removeprefix(place.path)
    }
    weights = sorted(name for name in inside if name.endswith(".safetensors"))
    if _CONFIG in inside and weights:
        best = _best_weights(weights, place, what)
        kept = inside[best]
        return inside[_CONFIG], HubFile(**{**vars(kept), "name": _WEIGHTS})
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
        f"{what}: {place.repository}/{place.path} holds {_named(weights or sorted(inside))}: name "
        "one safetensors file, e.g. "
        f"hf://{place.repository}@{place.revision or 'COMMIT'}/{place.path}FILE.safetensors"
    )


def _best_weights(weights: Sequence[str], place: HubReference, what: str) -> str:
    for name in (_WEIGHTS, "diffusion_pytorch_model.fp16.safetensors"):
        if name in weights:
            return name
    if len(weights) > 1:
        raise UserError(
            f"{what}: {place.repository}/{place.path} holds {_named(weights)}: name one of them"
        )
    return weights[0]


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(repr(one_line(name, longest=80)) for name in names[:6])
    return shown + (f" and {len(names) - 6} more" if len(names) > 6 else "") or "no files"
