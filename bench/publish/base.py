"""What every location of a published store offers: files by names relative to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.errors import UserError


class UnreachableError(UserError):
    """A location that does not respond, or denies access; its content is unknown."""


class Listed(NamedTuple):
    """A file of a location; `stamp` changes with its content."""

    stamp: str
    n_bytes: int


class StoreLocation(Protocol):
    """The files of a published store.

    Methods raise `UnreachableError` if the location cannot be reached.
    """

    @property
    def address(self) -> str:
        """The address as messages show it."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether requests cost nothing."""
        ...

    def listing(self, folder: str) -> dict[str, Listed]:
        """Return all files below a folder by name."""
        ...

    def read(self, name: str, *, limit_bytes: int) -> bytes | None:
        """Return a file's content, None if it is missing; raise `UserError` above the limit."""
        ...

    def upload(self, objects: Mapping[str, Path], index: Mapping[str, bytes]) -> None:
        """Write objects (name -> local file), and after all of them the index."""
        ...


def too_large(name: str, limit_bytes: int) -> UserError:
    """Return the error for a file above its size limit."""
    return UserError(f"{name} has more than {limit_bytes >> 20} MiB: it is not read")
