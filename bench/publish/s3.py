"""Published stores on S3 and what speaks its language, by s3fs.

Credentials, endpoint and region come from where AWS's own tools look (AWS_ENDPOINT_URL and so on);
XBENCH_S3_ANONYMOUS=1 reads a public bucket without any.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.publish.base import Listed, UnreachableError, too_large
from plugins_manifest.progress import Progress

_N_UPLOADS = 16  # at the same time
_SETTINGS = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 2}}
_STAMPS = ("ETag", "LastModified")


class S3Location:
    """A bucket, or a folder in one."""

    is_local = False

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._root = self.address.removeprefix("s3://")
        if not self._root:
            raise UserError("s3:// names no bucket: use s3://BUCKET/FOLDER")

    @cached_property
    def _files(self) -> Any:
        import s3fs

        return s3fs.S3FileSystem(
            anon=os.environ.get("XBENCH_S3_ANONYMOUS") == "1",
            config_kwargs=_SETTINGS,
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def listing(self, folder: str) -> dict[str, Listed]:
        """See `StoreLocation`; one request a thousand files."""
        with self._told():
            try:
                found = self._files.find(f"{self._root}/{folder}", detail=True)
            except FileNotFoundError:
                return {}
            return {
                name.removeprefix(f"{self._root}/"): Listed(
                    " ".join(str(info.get(k)) for k in _STAMPS), int(info["size"])
                )
                for name, info in found.items()
            }

    def read(self, name: str, *, limit_bytes: int) -> bytes | None:
        """See `StoreLocation`."""
        with self._told():
            try:
                content = self._files.cat_file(f"{self._root}/{name}", start=0, end=limit_bytes + 1)
            except FileNotFoundError:
                return None
        if len(content) > limit_bytes:
            raise too_large(name, limit_bytes)
        return content

    def upload(self, objects: Mapping[str, Path], index: Mapping[str, bytes]) -> None:
        """See `StoreLocation`."""

        def put(item: tuple[str, Path]) -> None:
            self._files.pipe_file(f"{self._root}/{item[0]}", item[1].read_bytes())

        pool = ThreadPoolExecutor(_N_UPLOADS)
        with self._told():
            try:
                with Progress(
                    f"uploading to {self.address}", unit="file", total=len(objects)
                ) as bar:
                    for _ in pool.map(put, objects.items()):
                        bar.update()
            finally:  # interrupted, or refused: what has not begun is left
                pool.shutdown(cancel_futures=True)
            for name, content in index.items():
                self._files.pipe_file(f"{self._root}/{name}", content)

    @contextmanager
    def _told(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except PermissionError as error:
            raise UnreachableError(
                f"{self.address} refuses access: check the credentials (AWS_ACCESS_KEY_ID, "
                "AWS_PROFILE, ...), or set XBENCH_S3_ANONYMOUS=1 for a public bucket"
            ) from error
        except FileNotFoundError as error:
            raise UnreachableError(
                f"{self.address}: there is no such bucket: create it first"
            ) from error
        except (OSError, BotoCoreError, ClientError) as error:
            raise UnreachableError(
                f"{self.address} cannot be reached ({type(error).__name__}): check the address, "
                "the network and AWS_ENDPOINT_URL"
            ) from error
