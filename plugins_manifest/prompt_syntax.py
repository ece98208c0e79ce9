"""Prompt syntax of web UIs: what stands in a prompt, its weights, and its plain words.

The rules of emphasis are those of AUTOMATIC1111's web UI: round brackets multiply the weight of
their content by 1.1, or by the number after a colon; square brackets divide it by 1.1; a backslash
takes the meaning from a bracket; BREAK starts a new chunk of tokens. Imports nothing of a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

SyntaxKind = Literal[
    "weight",
    "emphasis",
    "square",
    "editing",
    "lora",
    "break",
    "and",
    "braces",
    "wildcard",
    "compel",
    "embedding",
]
BREAK = "BREAK"
EMPHASIS = 1.1
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
_TOKEN = re.compile(
    r"\\[()\[\]\\]"  # an escaped bracket or backslash
    rf"|:\s*(?P<weight>{_NUMBER})\s*\)"  # the weight of a round bracket, and its end
    r"|[()\[\]]"
    r"|[^\\()\[\]:]+|[\\:]"
)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")


@dataclass(frozen=True)
class Words:
    """Part of a prompt with one weight; the text `BREAK` with weight None is a new chunk."""

    text: str
    weight: float | None


def weighted_words(prompt: str) -> list[Words]:
    """Parse a prompt by the rules of emphasis, brackets that are not closed included.

    >>> [(part.text, part.weight) for part in weighted_words("a (red:1.5) [old] car")]
    [('a ', 1.0), ('red', 1.5), (' ', 1.0), ('old', 0.9090909090909091), (' car', 1.0)]
    """
    parts: list[Words] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(start: int, factor: float) -> None:
        for i in range(start, len(parts)):
            own = parts[i].weight
            parts[i] = replace(parts[i], weight=None if own is None else own * factor)

    for match in _TOKEN.finditer(prompt):
        text, weight = match[0], match["weight"]
        if text in opened:
            opened[text].append(len(parts))
        elif weight is not None and opened["("]:
            close(opened["("].pop(), float(weight))
        elif text == ")" and opened["("]:
            close(opened["("].pop(), EMPHASIS)
        elif text == "]" and opened["["]:
            close(opened["["].pop(), 1 / EMPHASIS)
        elif text.startswith("\\"):
            parts.append(Words(text[1:], 1.0))
        else:
            parts += _with_breaks(text)
    for bracket, factor in (("(", EMPHASIS), ("[", 1 / EMPHASIS)):
        for start in opened[bracket]:
            close(start, factor)
    return _merged(parts)


def _with_breaks(text: str) -> Iterator[Words]:
    for i, piece in enumerate(_BREAK.split(text)):
        if i:
            yield Words(BREAK, None)
        yield Words(piece, 1.0)


def _merged(parts: list[Words]) -> list[Words]:
    """Join neighbors of one weight; their text is tokenized together."""
    found: list[Words] = []
    for part in parts:
        if not part.text:
            continue
        if found and part.weight is not None and found[-1].weight == part.weight:
            found[-1] = replace(part, text=found[-1].text + part.text)
        else:
            found.append(part)
    return found or [Words("", 1.0)]


def plain_words(prompt: str) -> str:
    """Return what a prompt with weights shows: its words without brackets, weights and BREAK.

    Metrics of text compare images with it.

    >>> plain_words("a ((red)) (car:1.3) BREAK [old] \\\\(round\\\\) wheel")
    'a red car old (round) wheel'
    """
    text = "".join(" " if part.weight is None else part.text for part in weighted_words(prompt))
    text = re.sub(r"\s+([,.;!?])", r"\1", " ".join(text.split()))
    return re.sub(r",(?:\s*,)+", ",", text)


# --- what is found in a prompt

_TAG = re.compile(r"<\s*(?:lora|lyco|hypernet|lycoris|wlr|ti|embed|embedding)\s*:[^<>]*>?", re.I)
_FLAT = r"[^\[\]()<>]"
_EDITING = re.compile(rf"\[{_FLAT}*(?::\s*{_NUMBER}\s*|\|{_FLAT}*)\]")
_COMPEL = re.compile(
    r"\([^()]+\)(?:\d*\.\d+|\+{1,4}|-{2,4})(?![\w+-])|[A-Za-z]{3,}\+{2,4}(?![\w+])"
)
_PATTERNS: tuple[tuple[SyntaxKind, re.Pattern[str]], ...] = (
    ("lora", _TAG),
    # a time of day or a proportion is not a weight: "(at 10:30)"
    (
        "weight",
        re.compile(
            rf"\((?:[^()]|\([^()]*\))*(?:[^\d\s():]\s*:\s*{_NUMBER}"
            r"|[^():]:\s*[-+]?\d*\.\d+)\s*\)"
        ),
    ),
    ("emphasis", re.compile(r"\({2,}[^()]+\){2,}")),
    ("editing", _EDITING),
    ("square", re.compile(rf"\[+{_FLAT}*[^\W\d_]{_FLAT}*\]+")),
    ("braces", re.compile(r"\{+[^{}]*[^\W\d_][^{}]*\}+")),
    ("wildcard", re.compile(r"(?<!\w)__[A-Za-z][\w/*-]*?__(?!\w)")),
    ("compel", _COMPEL),
    ("embedding", re.compile(r"\bembedding:\s*[\w./-]+", re.I)),
)
_OPERATORS: tuple[tuple[SyntaxKind, re.Pattern[str]], ...] = (
    ("break", re.compile(r"(?P<before>\S*?)[\s,]*(?<!\w)BREAK(?!\w)[\s,]*(?P<after>\S*)")),
    ("and", re.compile(r"(?P<before>\S+?),?\s+AND\s+(?P<after>\S+)")),
)


@dataclass(frozen=True)
class Found:
    """A piece of syntax as it stands in a prompt."""

    kind: SyntaxKind
    text: str


def find_syntax(prompt: str) -> list[Found]:
    """Return the first piece of each kind of syntax; ordinary brackets and capitals are none.

    >>> [(found.kind, found.text) for found in find_syntax("a (cat:1.2) <lora:fur:0.8> (grey)")]
    [('lora', '<lora:fur:0.8>'), ('weight', '(cat:1.2)')]
    """
    text = re.sub(r"\\[()\[\]{}]", "", prompt)
    found = [Found(kind, match) for kind, p in _PATTERNS if (match := _first(kind, p, text))]
    return [*found, *(Found(kind, kind.upper()) for kind, p in _OPERATORS if _is_used(p, text))]


def _first(kind: SyntaxKind, pattern: re.Pattern[str], text: str) -> str | None:
    """Return the first match; brackets that edit a prompt are not those that weaken words."""
    found = (match[0] for match in pattern.finditer(text))
    if kind == "square":
        found = (one for one in found if not _EDITING.fullmatch(one))
    return next(found, None)


def _is_used(operator: re.Pattern[str], text: str) -> bool:
    """Return whether a word in capitals is an operator: not inside of other capitals."""
    for match in operator.finditer(text):
        sides = [side for side in (match["before"], match["after"]) if side]
        if sides and not any(side.isupper() and len(side) > 1 for side in sides):
            return True
    return False
