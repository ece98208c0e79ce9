"""Published stores in a dataset of the Hugging Face Hub; HF_ENDPOINT and HF_TOKEN as usual.

One publication is one commit, so readers see the old state or the new.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.errors import UserError
from bench.publish.base import Listed, UnreachableError, too_large
from plugins_manifest.errors import FetchError
from plugins_manifest.http import hub_errors_explained

_ADDRESS = re.compile(
    r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.%-]+))?(?P<folder>(/[\w.-]+)*)/?"
)
_TIMEOUT_SECONDS = 30


class HubLocation:
    """A dataset, or a folder in one."""

    is_local = False

    def __init__(self, address: str) -> None:
        found = _ADDRESS.fullmatch(address)
        if found is None or ".." in address:
            raise UserError(
                f"{address!r} is not a dataset: use hf://datasets/ORG/NAME, hf://datasets/ORG/NAME/"
                "FOLDER or hf://datasets/ORG/NAME@BRANCH"
            )
        self.address = address.rstrip("/")
        self._repo, self._revision = found["repo"], found["revision"] or "main"
        self._prefix = found["folder"].lstrip("/") + "/" if found["folder"] else ""

    @cached_property
    def _hub(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))

    def listing(self, folder: str) -> dict[str, Listed]:
        """See `StoreLocation`; one request a thousand files."""
        from huggingface_hub import get_session
        from huggingface_hub.errors import EntryNotFoundError
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        # huggingface_hub's own listing retries an unreachable server for half a minute
        place = quote(self._prefix + folder)
        at = f"{self._hub.endpoint}/api/datasets/{self._repo}/tree/{self._revision}/{place}"
        following: str | None = at + "?recursive=true"
        found: list[dict[str, Any]] = []
        with self._explained():
            while following:
                answer = get_session().get(
                    following, headers=build_hf_headers(), timeout=_TIMEOUT_SECONDS
                )
                try:
                    hf_raise_for_status(answer)
                except EntryNotFoundError:
                    return {}
                found += answer.json()
                following = answer.links.get("next", {}).get("url")
            return {
                item["path"].removeprefix(self._prefix): Listed(str(item["oid"]), int(item["size"]))
                for item in found
                if item["type"] == "file"
            }

    def read(self, name: str, *, limit_bytes: int) -> bytes | None:
        """See `StoreLocation`."""
        from huggingface_hub import get_session
        from huggingface_hub.errors import EntryNotFoundError
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = self.url(name)
        content = bytearray()
        with self._explained():
            asked = get_session().stream(
                "GET",
                url,
                headers=build_hf_headers(),
                follow_redirects=True,
                timeout=_TIMEOUT_SECONDS,
            )
            with asked as answer:
                try:
                    hf_raise_for_status(answer)
                except EntryNotFoundError:
                    return None
                for piece in answer.iter_bytes():
                    content += piece
                    if len(content) > limit_bytes:
                        raise too_large(name, limit_bytes)
        return bytes(content)

    def url(self, name: str) -> str:
        """Return the address that a browser finds a file at, if the dataset is public."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(
            self._repo,
            self._prefix + name,
            repo_type="dataset",
            revision=self._revision,
            endpoint=self._hub.endpoint,
        )

    def upload(self, objects: Mapping[str, Path], index: Mapping[str, bytes]) -> None:
        """See `StoreLocation`; one commit."""
        from huggingface_hub import CommitOperationAdd

        files = {**{name: str(path) for name, path in objects.items()}, **index}
        operations = [
            CommitOperationAdd(path_in_repo=self._prefix + name, path_or_fileobj=content)
            for name, content in files.items()
        ]
        keys = ", ".join(Path(name).stem for name in index)
        with self._explained():
            self._hub.create_commit(
                self._repo,
                operations,
                commit_message=f"xbench publish: {keys}",
                repo_type="dataset",
                revision=self._revision,
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with hub_errors_explained(self.address):
                yield
        except FetchError as error:
            hint = "; or create the dataset on the Hub" if error.code == "missing" else ""
            raise UnreachableError(f"{error}{hint}") from error
