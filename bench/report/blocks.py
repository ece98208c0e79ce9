"""The blocks of a report, without markup: each writer escapes all texts in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.site import SitePlugin


@dataclass(frozen=True)
class Strong:
    """Bold text."""

    text: str


Span = str | Strong


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the report's own. `plugin` makes it the place that cards link to."""

    level: int
    text: str
    plugin: str | None = None


@dataclass(frozen=True)
class Lead:
    """The one sentence that a report starts with."""

    text: str


@dataclass(frozen=True)
class Cards:
    """A card for each plugin, on pages alone: the sentences below have the same words.

    The first `n_pictured` have pictures.
    """

    plugins: tuple[SitePlugin, ...]
    n_pictured: int


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Bullets:
    """A list of short paragraphs."""

    items: tuple[tuple[Span, ...], ...]


@dataclass(frozen=True)
class Table:
    """Rows of plain cells; the header names the columns."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Picture:
    """An image file of the report's folder; `svg` is the same image as part of a page, if any.

    A page only names a picture that is not embedded.
    """

    path: Path
    alt: str
    svg: str | None = None
    is_embedded: bool = True


@dataclass(frozen=True)
class Fold:
    """A part with a heading that a page shows on demand."""

    heading: Heading
    blocks: tuple[Block, ...]


Block = Heading | Lead | Cards | Paragraph | Bullets | Table | Picture | Fold


def paragraph(*spans: Span) -> Paragraph:
    """Return a paragraph of spans."""
    return Paragraph(spans)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of rows of cells."""
    return Table(tuple(header), tuple(tuple(row) for row in rows))
