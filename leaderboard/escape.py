"""Hostile text shown literally: prompts, names and errors come from outside."""

from __future__ import annotations

import re
import string
import unicodedata

_ESCAPED = str.maketrans({c: f"\\{c}" for c in string.punctuation})
# ":smile:", "www.x.org" and "a@x.org" are replaced after parsing, escaped or not
_REPLACED_LATER = re.compile(r"(?i)\\[:@]|www(?=\\\.)")
MAX_LENGTH = 2000


def one_line(text: object) -> str:
    """Text without control and invisible characters, on one line, not longer than `MAX_LENGTH`."""
    shown = "" if text is None else str(text)[:MAX_LENGTH]
    plain = "".join(" " if unicodedata.category(c).startswith(("C", "Z")) else c for c in shown)
    return " ".join(plain.split())


def literal(text: object) -> str:
    """Text that Streamlit's Markdown shows as it is: nothing in it is a link, HTML or color."""
    # a zero-width joiner takes such text apart
    return _REPLACED_LATER.sub("\\g<0>\u2060", one_line(text).translate(_ESCAPED))
