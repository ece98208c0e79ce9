"""Where published stores are: a folder of this machine, `s3://BUCKET/...`, `hf://datasets/...`.

A place is reached by names relative to it, never by anything else. `UnreachableError` says that it
cannot be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.errors import UserError, shown_path
from bench.publish.format import file_inside
from bench.store.files import write_bytes

_HUB, _S3, _FILE = "hf://", "s3://", "file://"


class UnreachableError(UserError):
    """A place that does not answer, or refuses to; what it holds says nothing of it."""


class Listed(NamedTuple):
    """A file of a place; `stamp` changes with its content."""

    stamp: str
    n_bytes: int


class StoreLocation(Protocol):
    """A store's files."""

    @property
    def address(self) -> str:
        """How people name it."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether asking it costs nothing."""
        ...

    def listing(self, folder: str) -> dict[str, Listed]:
        """All files below a folder by name."""
        ...

    def read(self, name: str, *, limit_bytes: int) -> bytes | None:
        """A file's content; None where there is none. `UserError` for one above the limit."""
        ...

    def upload(self, objects: Mapping[str, Path], index: Mapping[str, bytes]) -> None:
        """Write objects (name -> local file), and after all of them the index."""
        ...


def open_place(address: str) -> StoreLocation:
    """The place of an address; nothing is asked yet. `UserError` for an address of another kind."""
    if address.startswith(_HUB):
        from bench.publish.hub import HubLocation

        return HubLocation(address)
    if address.startswith(_S3):
        from bench.publish.s3 import S3Place

        return S3Place(address)
    if "://" in address and not address.startswith(_FILE):
        raise UserError(
            f"{address!r} is no address of a store: use a folder, s3://BUCKET/FOLDER or "
            "hf://datasets/ORG/NAME"
        )
    return FolderPlace(local_folder(address))


def local_folder(address: str) -> Path:
    """The folder of this machine that an address names, which may start with file:// or ~."""
    return Path(address.removeprefix(_FILE)).expanduser()


def is_remote(address: str) -> bool:
    """Whether an address is that of another machine."""
    return "://" in address and not address.startswith(_FILE)


def too_large(name: str, limit_bytes: int) -> UserError:
    """What to say of a file above its limit."""
    return UserError(f"{name} has more than {limit_bytes >> 20} MiB: it is not read")


class FolderPlace:
    """A folder of this machine."""

    is_local = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def address(self) -> str:
        """The folder as people should see it."""
        return shown_path(self.folder)

    def listing(self, folder: str) -> dict[str, Listed]:
        """See `StoreLocation`."""
        found = {}
        for path in (self.folder / folder).rglob("*"):
            with suppress(FileNotFoundError):  # a file that is being written takes another name
                if path.is_file():
                    state = path.stat()
                    name = path.relative_to(self.folder).as_posix()
                    found[name] = Listed(str(state.st_mtime_ns), state.st_size)
        return found

    def read(self, name: str, *, limit_bytes: int) -> bytes | None:
        """See `StoreLocation`; links that leave the folder are not followed."""
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
        """See `StoreLocation`; every file is written whole or not at all."""
        for name, path in objects.items():
            write_bytes(self.folder / name, path.read_bytes())
        for name, content in index.items():
            write_bytes(self.folder / name, content)
