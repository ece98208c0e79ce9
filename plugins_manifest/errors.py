"""Errors caused by what a user typed or wrote: one message, no traceback, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Something the user can fix; the message says what is wrong, the value, and the fix."""

    def __init__(self, message: str, problems: Sequence[str] | None = None) -> None:
        super().__init__(message)
        self.problems: tuple[str, ...] = (message,) if problems is None else tuple(problems)

    @classmethod
    def collect(cls, problems: Sequence[str]) -> UserError:
        """One error that lists all problems, one a line."""
        if len(problems) == 1:
            return cls(problems[0])
        listed = "\n".join(f"  - {problem}" for problem in problems)
        return cls(f"{len(problems)} problems:\n{listed}", problems)


def nearest_names(name: str, valid: Iterable[str], *, n: int = 3) -> list[str]:
    """The valid names closest to `name`, best first; all of them if there are few."""
    names = sorted(valid)
    if len(names) <= n:
        return names
    return difflib.get_close_matches(name, names, n=n, cutoff=0.0)


def unknown_name(what: str, name: str, valid: Iterable[str]) -> str:
    """Say that `name` is no known `what` and name the nearest valid ones."""
    nearest = ", ".join(nearest_names(name, valid))
    return f"unknown {what} {name!r}: use {nearest}" if nearest else f"unknown {what} {name!r}"
