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

_ADDRESS = re.compile(
    r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.%-]+))?(?P<folder>(/[\w.-]+)*)/?"
)
_TIMEOUT_SECONDS = 30
_NO_HUB = (ValueError, KeyError, TypeError)  # what answers speaks another language


class HubLocation:
    """A dataset, or a folder in one."""

    is_local = False

    def __init__(self, address: str) -> None:
        found = _ADDRESS.fullmatch(address)
        if found is None or ".." in address:
            raise UserError(
                f"{address!r} is no dataset: use hf://datasets/ORG/NAME, hf://datasets/ORG/NAME/"
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

        # the library's own listing asks again for half a minute where nobody answers
        place = quote(self._prefix + folder)
        at = f"{self._hub.endpoint}/api/datasets/{self._repo}/tree/{self._revision}/{place}"
        following: str | None = at + "?recursive=true"
        found: list[dict[str, Any]] = []
        with self._told():
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
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = hf_hub_url(
            self._repo,
            self._prefix + name,
            repo_type="dataset",
            revision=self._revision,
            endpoint=self._hub.endpoint,
        )
        content = bytearray()
        with self._told():
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

    def upload(self, objects: Mapping[str, Path], index: Mapping[str, bytes]) -> None:
        """See `StoreLocation`; one commit."""
        from huggingface_hub import CommitOperationAdd

        files = {**{name: str(path) for name, path in objects.items()}, **index}
        operations = [
            CommitOperationAdd(path_in_repo=self._prefix + name, path_or_fileobj=content)
            for name, content in files.items()
        ]
        keys = ", ".join(Path(name).stem for name in index)
        with self._told():
            self._hub.create_commit(
                self._repo,
                operations,
                commit_message=f"xbench publish: {keys}",
                repo_type="dataset",
                revision=self._revision,
            )

    @contextmanager
    def _told(self) -> Iterator[None]:
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HTTPError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        try:
            yield
        except OfflineModeIsEnabled as error:
            raise UnreachableError(
                f"{self.address} is not asked in offline mode: unset HF_HUB_OFFLINE"
            ) from error
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise UnreachableError(
                f"{self.address} is not there, or HF_TOKEN may not see it: create the dataset on "
                "the Hub, or log in with `hf auth login`"
            ) from error
        except HfHubHTTPError as error:
            code = error.response.status_code if error.response is not None else "no answer"
            hint = "HF_TOKEN needs the right to write" if code in (401, 403) else "try again later"
            raise UnreachableError(f"{self.address} answers {code}: {hint}") from error
        except UserError:
            raise
        except (HTTPError, OSError, RuntimeError, *_NO_HUB) as error:  # RuntimeError: an upload
            raise UnreachableError(
                f"{self.address} cannot be reached ({type(error).__name__}): check the network "
                "(HF_ENDPOINT names a mirror)"
            ) from error
