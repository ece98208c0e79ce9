"""A captioned picture of a source, before it is opened, and what every source can do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from plugins_manifest.images import SUFFIXES, ImageError

Reason = Literal[
    "no caption", "not an image", "broken", "too small", "too large", "missing", "dead link"
]
IMAGE_SUFFIXES = frozenset(SUFFIXES)
CAPTION_KEYS = ("caption", "text", "prompt", "TEXT", "CAPTION")
MAX_CAPTION_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture at a place of a file: bytes from `at` on, or the row `size` of the row group `at`.

    `reason` is why it cannot be used, where that is known before it is opened.
    """

    name: str
    caption: str
    file: str
    at: int = 0
    size: int = 0
    reason: Reason | None = None
    detail: str = ""


class Source(Protocol):
    """Captioned pictures in a fixed order; several threads may read contents."""

    @property
    def title(self) -> str:
        """Where the pictures are from, for messages."""
        ...

    def files(self) -> Sequence[Path]:
        """Return every file that the entries are made of."""
        ...

    def entries(self) -> Iterator[Entry]:
        """Yield all entries, those that cannot be used included."""
        ...

    def content(self, entry: Entry) -> bytes:
        """Return the bytes of a picture; raises `UserError` or `OSError`."""
        ...


def stamp_of(files: Iterable[Path], *settings: object) -> str:
    """Return a digest that changes with any file's name, size or time, and with the settings."""
    digest = hashlib.sha256(repr(settings).encode())
    for path in files:
        facts = path.stat()
        digest.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def caption_in(facts: object) -> str:
    """Return the caption of a record; empty if it has none."""
    if not isinstance(facts, dict):
        return ""
    found = (facts.get(key) for key in CAPTION_KEYS)
    return next((text.strip() for text in found if isinstance(text, str) and text.strip()), "")


def reason_of(error: Exception) -> Reason:
    """Return why a picture cannot be used, by its error."""
    if not isinstance(error, ImageError):
        return "missing"
    reasons: dict[str, Reason] = {
        "not-an-image": "not an image",
        "too-large": "too large",
        "broken": "broken",
    }
    return reasons[error.fault]
