"""The blocks of a report, without markup: each writer escapes all texts in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Strong:
    """Bold text."""

    text: str


Span = str | Strong


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the report's own."""

    level: int
    text: str


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
    """An image file of the report's folder; `svg` is the same image as part of a page, if any."""

    path: Path
    alt: str
    svg: str | None = None


Block = Heading | Paragraph | Bullets | Table | Picture


def paragraph(*spans: Span) -> Paragraph:
    """Return a paragraph of spans."""
    return Paragraph(spans)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of rows of cells."""
    return Table(tuple(header), tuple(tuple(row) for row in rows))
