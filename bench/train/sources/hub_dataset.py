"""Parquet files of a dataset of the Hugging Face Hub, downloaded to the Hub's own cache.

HF_ENDPOINT, HF_HOME, HF_TOKEN and offline mode as usual. A dataset without parquet files has them
at the revision that the Hub converts to.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from bench.errors import UserError
from bench.train.schema import HubData
from plugins_manifest.http import hub_errors_explained
from plugins_manifest.progress import Progress
from plugins_manifest.text import shortened

_CONVERTED = "refs/convert/parquet"
_TIMEOUT_SECONDS = 30.0
_WORDS = re.compile(r"[^A-Za-z0-9]+")


def fetch_tables(spec: HubData) -> list[Path]:
    """Download the files of a split, without filters only those with the first `n_images` rows."""
    import pyarrow.parquet as pq
    from huggingface_hub import hf_hub_download

    what = f"data.dataset: {spec.dataset}"
    revision, names = _find_files(spec, what)
    is_filtered = spec.min_aesthetic is not None or spec.licenses is not None
    paths, n_rows = [], 0
    with Progress(f"downloading {spec.dataset}", unit="file", total=len(names)) as bar:
        for name in names:
            with hub_errors_explained(what):
                path = hf_hub_download(
                    spec.dataset,
                    name,
                    repo_type="dataset",
                    revision=revision,
                    endpoint=os.environ.get("HF_ENDPOINT"),
                    etag_timeout=_TIMEOUT_SECONDS,
                )
            paths.append(Path(path))
            bar.update()
            if spec.n_images is not None and not is_filtered:
                n_rows += pq.read_metadata(path).num_rows
                if n_rows >= spec.n_images:
                    break
    return paths


def _find_files(spec: HubData, what: str) -> tuple[str, list[str]]:
    """Return a commit and the names of the split's parquet files at it."""
    tried = [spec.revision or "main"] + ([] if spec.revision else [_CONVERTED])
    others: list[str] = []
    for revision in tried:
        commit, names = _parquet_at(spec.dataset, revision, what)
        chosen = [name for name in names if spec.split in _WORDS.split(name)]
        if chosen:
            return commit, chosen
        others = others or names
    if not others:
        raise UserError(f"{what} has no parquet files: name another dataset, or download it")
    raise UserError(
        f"data.split: {spec.dataset} has no split {spec.split!r} among {shortened(others, 6)}"
    )


def _parquet_at(dataset: str, revision: str, what: str) -> tuple[str, list[str]]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with hub_errors_explained(f"{what}@{revision}"):
        try:
            info = api.dataset_info(dataset, revision=revision, timeout=_TIMEOUT_SECONDS)
        except RevisionNotFoundError:
            if revision != _CONVERTED:
                raise
            return revision, []
        tree = api.list_repo_tree(dataset, repo_type="dataset", revision=info.sha, recursive=True)
        names = sorted(entry.path for entry in tree if entry.path.endswith(".parquet"))
    return str(info.sha), names
