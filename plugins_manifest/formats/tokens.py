"""Tokens of embeddings are a stranger's text that enters the tokenizer: which are refused.

A token that is a common word would change what every prompt means; whether it is one of the
tokenizer's own words is checked where the tokenizer is.
"""

from __future__ import annotations

from collections.abc import Iterable

from plugins_manifest.formats.parsed import Problem

UNNAMED = "*"
"""The token of a file that names none: the manifest's, or the file's stem, is used."""

_PREFIX = "embedding:"
_MAX_LENGTH = 64
_COMMON = frozenset(
    {
        "a",
        "an",
        "and",
        "art",
        "at",
        "best",
        "by",
        "detailed",
        "face",
        "girl",
        "hair",
        "hands",
        "high",
        "in",
        "man",
        "masterpiece",
        "nude",
        "of",
        "on",
        "painting",
        "person",
        "photo",
        "portrait",
        "quality",
        "style",
        "the",
        "to",
        "with",
        "woman",
    }
)


def token_problems(roles: Iterable[str]) -> list[Problem]:
    """All tokens among roles `embedding:<token>` that cannot be used as they are."""
    problems, seen = [], set()
    for role in roles:
        token = role.removeprefix(_PREFIX)
        shown = ascii(token[:_MAX_LENGTH])
        if token != UNNAMED and (len(token) > _MAX_LENGTH or token.split() != [token]):
            problems.append(Problem("bad-token", f"the token {shown} is long or has spaces"))
        elif token.lower() in _COMMON:
            problems.append(Problem("bad-token", f"the token {shown} is a common word of prompts"))
        # Prompts are lower-cased before they are split: two spellings would be one token.
        if token.lower() in seen:
            problems.append(Problem("bad-token", f"the token {shown} is there twice"))
        seen.add(token.lower())
    return problems
