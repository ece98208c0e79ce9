"""Download published weights into place, on request by `xbench metrics fetch`.

From the Hugging Face Hub by huggingface_hub (HF_ENDPOINT, HF_TOKEN and offline mode as usual), else
by HTTP with the proxies of the environment, resumed and retried. A file gets its name only when it
is complete and has the published hash.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from metrics.weights.files import FOLDER_VARIABLE, RemoteFile, Weights, weights_folder
from plugins_manifest.errors import FetchError, UserError, unknown_name
from plugins_manifest.files import file_sha256, move_into_place, replacing
from plugins_manifest.http import Client, Progress, Wanted, hub_errors_explained
from plugins_manifest.http.download import download, no_progress
from plugins_manifest.redact import redact_url
from plugins_manifest.store import Store

_TIMEOUT_SECONDS = 30.0


def find_weights(name: str) -> Weights:
    """Return an entry of the catalog; `UserError` with the nearest names."""
    from metrics.weights.catalog import CATALOG

    if name not in CATALOG:
        raise UserError(unknown_name("weights", name, CATALOG))
    return CATALOG[name]


def fetch_weights(
    weights: Weights,
    *,
    announce: Callable[[str], object] = lambda name: None,
    progress: Progress = no_progress,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Path]:
    """Download the files that are missing and check all; `UserError` for what fails.

    `announce` gets the name of each file before its download, `progress` the bytes of a web file;
    `sleep` replaces the pause between tries.
    """
    weights.folder.mkdir(parents=True, exist_ok=True)
    placed = []
    for file in weights.files:
        path = weights.folder / file.name
        if not path.is_file():
            if path.is_symlink() or path.exists():
                raise UserError(f"{path} is in the way of {file.name}, and not a file: move it")
            announce(file.name)
            what = f"{weights.name}: {file.name}"
            if file.source.startswith("hf://"):
                _fetch_from_hub(file, path, what)
            else:
                _fetch_from_web(file, path, what, progress, sleep)
        placed.append(path)
    weights.sha256()
    return placed


def _fetch_from_hub(file: RemoteFile, path: Path, what: str) -> None:
    from huggingface_hub import hf_hub_download

    owner, repository, name = file.source.removeprefix("hf://").split("/", 2)
    with hub_errors_explained(f"{what}: {owner}/{repository}"):
        cached = hf_hub_download(f"{owner}/{repository}", name, etag_timeout=_TIMEOUT_SECONDS)
    with replacing(path) as draft:
        shutil.copyfile(cached, draft)
        _check(draft, file, what)


def _fetch_from_web(
    file: RemoteFile,
    path: Path,
    what: str,
    progress: Progress,
    sleep: Callable[[float], None],
) -> None:
    store = Store(weights_folder(), setting=FOLDER_VARIABLE)
    wanted = Wanted(what, file.source, sha256=file.sha256 or None)
    advice = f"save {redact_url(file.source)} in {path.parent} yourself"
    with (
        Client(allow=None, advice=advice, sleep=sleep) as client,
        store.download(file.source) as partial,
    ):
        if not path.is_file():  # else another process was first
            download(
                client,
                store,
                wanted,
                partial,
                lambda part: _accept(part, path, file, what),
                progress=progress,
            )


def _accept(part: Path, path: Path, file: RemoteFile, what: str) -> None:
    """Check a complete file, then give it its name."""
    _check(part, file, what)
    move_into_place(part, path)


def _check(part: Path, file: RemoteFile, what: str) -> None:
    """Raise `FetchError` unless a file has the published hash."""
    sha256 = file_sha256(part)
    if not sha256.startswith(file.sha256):
        raise FetchError(
            f"{what} has the sha256 {sha256}, published is {file.sha256}...: {file.source} has "
            "another file now; nothing was kept",
            code="wrong-hash",
        )
