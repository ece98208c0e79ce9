"""A report as Markdown. Texts come from outside: all are escaped, and no HTML is written."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.report.blocks import Block, Bullets, Heading, Paragraph, Picture, Span, Strong, Table

_NUMBERS = re.compile(r"[-+]?[\d.]*( ?\[[-+\d., ]*\])?")  # a number with its interval
_PUNCTUATION = str.maketrans({c: f"\\{c}" for c in string.punctuation if c not in ",'.:-;%+=()/"})


def to_markdown(blocks: Iterable[Block], folder: Path) -> str:
    """The blocks in order; pictures are named relative to the report's folder."""
    return "\n".join(_block(block, folder) for block in blocks)


def escape(text: str) -> str:
    """Text as Markdown shows it literally: one line, punctuation escaped, no control characters."""
    if _NUMBERS.fullmatch(text):
        return text
    plain = "".join(" " if unicodedata.category(c).startswith(("C", "Z")) else c for c in text)
    literal = " ".join(plain.split()).translate(_PUNCTUATION)
    # both would become links without any brackets
    return literal.replace("://", ":\\/\\/").replace("www.", "www\\.")


def _block(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {escape(block.text)}\n"
    if isinstance(block, Paragraph):
        return f"{_spans(block.spans)}\n"
    if isinstance(block, Bullets):
        return "".join(f"- {_spans(item)}\n" for item in block.items)
    if isinstance(block, Table):
        return _table(block)
    return _picture(block, folder)


def _picture(picture: Picture, folder: Path) -> str:
    return f"![{escape(picture.alt)}]({picture.path.relative_to(folder).as_posix()})\n"


def _spans(spans: Sequence[Span]) -> str:
    told = ""
    for span in spans:
        text = span.text if isinstance(span, Strong) else span
        inner = escape(text)
        if not inner:
            told += " " if text else ""
            continue
        before, after = (" " if text[i].isspace() else "" for i in (0, -1))
        told += before + (f"**{inner}**" if isinstance(span, Strong) else inner) + after
    return told


def _table(table: Table) -> str:
    lines = [table.header, *table.rows]
    told = ["| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines]
    told.insert(1, "| " + " | ".join("---" for _ in table.header) + " |")
    return "\n".join(told) + "\n"
