"""Escape untrusted text (prompts, names, errors) so that pages display it literally."""

from __future__ import annotations

import re
import string

from bench.report import csv_cell
from bench.report import one_line as on_one_line

__all__ = ["MAX_LENGTH", "csv_cell", "literal", "one_line"]

_ESCAPED = str.maketrans({c: f"\\{c}" for c in string.punctuation})
# ":smile:", "www.x.org" and "a@x.org" are replaced after parsing, escaped or not
_REPLACED_LATER = re.compile(r"(?i)\\[:@]|www(?=\\\.)")
MAX_LENGTH = 2000
MAX_QUOTED = 200


def one_line(text: object) -> str:
    """Return text on one line without control characters, cut to `MAX_LENGTH`."""
    return "" if text is None else on_one_line(text, longest=MAX_LENGTH)


def quoted(value: object) -> str:
    """Return a given value for an error message, cut if it is long."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…"


def literal(text: object) -> str:
    """Escape text for Streamlit's Markdown: nothing in it becomes a link, HTML or a color."""
    # a zero-width joiner prevents the later replacement
    return _REPLACED_LATER.sub("\\g<0>\u2060", one_line(text).translate(_ESCAPED))
