"""Download files from the Hugging Face Hub at pinned commits, with errors that name a remedy.

Goes through huggingface_hub, so HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are honored and
finished downloads are reused. Imports no torch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from plugins_manifest.errors import FetchError, UserError
from plugins_manifest.http import hub_errors_explained

_COMMIT = re.compile(r"[0-9a-f]{40}")
_PIN = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[^/@\s]+)(?:/(?P<file>\S+))?")


@dataclass(frozen=True)
class HubModel:
    """A repository at a commit; `file` is a file in it, None its pipeline or model folder."""

    repository: str
    revision: str
    file: str | None = None

    @classmethod
    def parse(cls, text: str, *, name: str) -> HubModel:
        """Parse "owner/repository@COMMIT" or "owner/repository@COMMIT/file".

        Raises `UserError`, with the `name` of the setting, for anything else: a branch can move.
        """
        match = _PIN.fullmatch(text)
        if match is None or not _COMMIT.fullmatch(match["revision"]):
            raise UserError(
                f"{name} is {text!r}: write owner/repository@COMMIT with the commit's 40 "
                "hexadecimal digits, or the path of a folder"
            )
        return cls(match["repository"], match["revision"], match["file"])

    @property
    def sha256(self) -> str:
        """Return the hash of the pin; the commit fixes the weights."""
        return hashlib.sha256(str(self).encode()).hexdigest()

    def __str__(self) -> str:
        pin = f"{self.repository}@{self.revision}"
        return pin if self.file is None else f"{pin}/{self.file}"


@dataclass(frozen=True)
class PartSource:
    """A part of a family: its source, approximate size, license, and whether it is cached."""

    what: str
    source: str
    megabytes: int | None
    license: str | None
    is_here: bool


def is_cached(model: HubModel, files: Sequence[str]) -> bool:
    """Return whether all these files of a commit are in the local Hub cache."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(model.repository, f, revision=model.revision) for f in files)
    return all(isinstance(path, str) for path in found)


def fetch_folder(model: HubModel, files: Sequence[str], *, setting: str) -> Path:
    """Download the files that match the patterns `files`; return the snapshot's folder.

    `setting` is the environment variable that names another source. Raises `UserError` if the
    repository is gated, missing or without that commit, or unreachable and not in the cache.
    """
    from huggingface_hub import snapshot_download

    with _explained(model, setting):
        return Path(
            snapshot_download(model.repository, revision=model.revision, allow_patterns=list(files))
        )


def fetch_file(model: HubModel, *, setting: str) -> Path:
    """Download one file; return its path in the cache. Raises `UserError` as `fetch_folder`."""
    from huggingface_hub import hf_hub_download

    if model.file is None:
        raise UserError(f"{setting} is {str(model)!r}: add the file, {model}/FILE")
    with _explained(model, setting):
        return Path(hf_hub_download(model.repository, model.file, revision=model.revision))


@contextmanager
def _explained(model: HubModel, setting: str) -> Iterator[None]:
    """Raise the Hub's errors with the setting that names another source."""
    try:
        with hub_errors_explained(f"model {model.repository}@{model.revision}"):
            yield
    except FetchError as error:
        raise UserError(
            f"{error}; or name another source with {setting}=owner/repository@COMMIT, or a local "
            "folder"
        ) from error
