"""Open a published store: a folder of this machine, `s3://BUCKET/...`, `hf://datasets/...`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bench.errors import UserError, shown_path
from bench.publish.base import Listed, StoreLocation, too_large
from bench.publish.format import file_inside
from bench.store.files import write_bytes
from plugins_manifest.progress import Progress

_HUB, _S3, _FILE = "hf://", "s3://", "file://"


def open_location(address: str) -> StoreLocation:
    """Return the location of an address without a request; raise `UserError` for other texts."""
    if address.startswith(_HUB):
        from bench.publish.hub import HubLocation

        return HubLocation(address)
    if address.startswith(_S3):
        from bench.publish.s3 import S3Location

        return S3Location(address)
    if is_remote(address):
        raise UserError(
            f"{address!r} is not the address of a store: use a folder, s3://BUCKET/FOLDER or "
            "hf://datasets/ORG/NAME"
        )
    return FolderLocation(local_folder(address))


def local_folder(address: str) -> Path:
    """Return the local folder of an address, which may start with file:// or ~."""
    return Path(address.removeprefix(_FILE)).expanduser()


def is_remote(address: str) -> bool:
    """Return whether an address is on another machine."""
    return "://" in address and not address.startswith(_FILE)


class FolderLocation:
    """A folder of this machine."""

    is_local = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def address(self) -> str:
        """The folder as messages show it."""
        return shown_path(self.folder)

    def listing(self, folder: str) -> dict[str, Listed]:
        """Return all files; see `StoreLocation`."""
        found = {}
        for path in (self.folder / folder).rglob("*"):
            with suppress(FileNotFoundError):  # a file that is being written changes its name
                if path.is_file():
                    state = path.stat()
                    name = path.relative_to(self.folder).as_posix()
                    found[name] = Listed(str(state.st_mtime_ns), state.st_size)
        return found

    def read(self, name: str, *, limit_bytes: int) -> bytes | None:
        """Return a file's content; links that leave the folder are not followed."""
        path = file_inside(self.folder, name)
        if path is None:
            return None
        try:
            if path.stat().st_size > limit_bytes:
                raise too_large(name, limit_bytes)
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{name} cannot be read: {error.strerror}") from error

    def upload(self, objects: Mapping[str, Path], index: Mapping[str, bytes]) -> None:
        """Write every file atomically; see `StoreLocation`."""
        with Progress(f"writing to {self.address}", unit="file", total=len(objects)) as bar:
            for name, path in objects.items():
                write_bytes(self.folder / name, path.read_bytes())
                bar.update()
        for name, content in index.items():
            write_bytes(self.folder / name, content)
