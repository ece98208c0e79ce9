"""Putting published weights into place, when a person asks for it by `xbench metrics fetch`.

From the Hugging Face Hub by huggingface_hub (HF_ENDPOINT, HF_TOKEN and offline mode as usual), else
over http. A file takes its name only when it is whole and has the published hash.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from metrics.weights.files import RemoteFile, Weights
from plugins_manifest.errors import UserError, unknown_name

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 30.0
Progress = Callable[[str], object]


def find_weights(name: str) -> Weights:
    """An entry of the catalog; `UserError` with the nearest names."""
    from metrics.weights.catalog import CATALOG

    if name not in CATALOG:
        raise UserError(unknown_name("weights", name, CATALOG))
    return CATALOG[name]


def fetch_weights(weights: Weights, *, progress: Progress = lambda name: None) -> list[Path]:
    """Download the files that are missing, and check all; `UserError` where that fails."""
    weights.folder.mkdir(parents=True, exist_ok=True)
    placed = []
    for file in weights.files:
        path = weights.folder / file.name
        if not path.is_file():
            progress(file.name)
            draft = weights.folder / f"{file.name}.{os.getpid()}.part"
            try:
                _download(file, draft, what=f"{weights.name}: {file.name}")
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        placed.append(path)
    weights.sha256()
    return placed


def _download(file: RemoteFile, draft: Path, *, what: str) -> None:
    is_hub = file.source.startswith("hf://")
    sha256 = _from_hub(file, draft, what) if is_hub else _from_web(file, draft, what)
    if not sha256.startswith(file.sha256):
        raise UserError(
            f"{what} has the sha256 {sha256}, published is {file.sha256}...: {file.source} holds "
            "another file now; nothing was kept"
        )


def _from_hub(file: RemoteFile, draft: Path, what: str) -> str:
    from huggingface_hub import hf_hub_download

    from plugins_manifest.http.hub_errors import hub_errors_explained

    owner, repository, path = file.source.removeprefix("hf://").split("/", 2)
    with hub_errors_explained(what, f"{owner}/{repository}", None):
        cached = hf_hub_download(f"{owner}/{repository}", path, etag_timeout=_TIMEOUT_SECONDS)
    with Path(cached).open("rb") as source:
        return _copy(iter(lambda: source.read(_BLOCK_BYTES), b""), draft)


def _from_web(file: RemoteFile, draft: Path, what: str) -> str:
    import httpx

    try:
        with httpx.stream(
            "GET", file.source, follow_redirects=True, timeout=_TIMEOUT_SECONDS
        ) as answer:
            answer.raise_for_status()
            return _copy(answer.iter_raw(_BLOCK_BYTES), draft)
    except httpx.HTTPError as error:
        raise UserError(
            f"{what} cannot be had from {file.source} ({error}): try again, or put the file there "
            "by hand"
        ) from error


def _copy(blocks: Iterable[bytes], draft: Path) -> str:
    """Write blocks of bytes and return their sha256."""
    digest = hashlib.sha256()
    with draft.open("wb") as target:
        for block in blocks:
            digest.update(block)
            target.write(block)
    return digest.hexdigest()
