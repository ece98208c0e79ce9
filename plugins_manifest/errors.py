"""Errors that a user can fix: one message, no traceback, exit code 2.

`FetchError` adds a code for scripts and, for the fetching code itself, what to try next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

FetchCode = Literal[
    "bad-request",
    "blocked-address",
    "blocked-host",
    "busy",
    "changed",
    "cloudflare",
    "disk",
    "expired",
    "gated",
    "gone",
    "missing",
    "needs-token",
    "not-a-plugin",
    "offline",
    "our-bug",
    "range",
    "refused",
    "too-large",
    "unreachable",
    "wrong-hash",
]
# What is tried before the error is raised to the caller.
RetryAdvice = Literal["none", "back-off", "fresh-url", "file-id", "mirror", "restart"]


_MOST_SHOWN = 30  # problems of one message
_LONGEST_NAME = 80  # characters of a name that is compared with the valid ones


class PicklableError(Exception):
    """An error that crosses processes with its message and attributes, whatever its arguments.

    Other exceptions are pickled as a call of their class with the message alone, which fails, or
    changes the message, where `__init__` takes something else.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(
    kind: type[PicklableError], args: tuple[Any, ...], state: Mapping[str, Any]
) -> PicklableError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UserError(PicklableError):
    """A problem that the user can fix; the message gives the problem, the value and the fix."""

    def __init__(self, message: str, problems: Sequence[str] | None = None) -> None:
        super().__init__(message)
        self.problems: tuple[str, ...] = (message,) if problems is None else tuple(problems)

    @classmethod
    def collect(cls, problems: Sequence[str]) -> UserError:
        """Return one error that lists the first problems, one a line, and counts the others."""
        if len(problems) == 1:
            return cls(problems[0])
        shown = [*problems[:_MOST_SHOWN]]
        if len(problems) > _MOST_SHOWN:
            shown.append(f"... and {len(problems) - _MOST_SHOWN} more")
        listed = "\n".join(f"  - {problem}" for problem in shown)
        return cls(f"{len(problems)} problems:\n{listed}", problems)


class FetchError(UserError):
    """A download that failed; the message contains no token and no signed URL."""

    def __init__(
        self,
        message: str,
        *,
        code: FetchCode,
        remedy: RetryAdvice = "none",
        wait_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code: FetchCode = code
        self.remedy: RetryAdvice = remedy
        self.wait_seconds = wait_seconds
        self.made_progress = False


class HostError(FetchError):
    """A host that is forbidden or unreachable; the message names the host, not the file."""


def nearest_names(name: str, valid: Iterable[str], *, n: int = 3) -> list[str]:
    """Return the valid names closest to `name`, best first; all of them if there are few."""
    names, name = sorted(valid), name[:_LONGEST_NAME]
    if len(names) <= n:
        return names
    return difflib.get_close_matches(name, names, n=n, cutoff=0.0)


def unknown_name(what: str, name: str, valid: Iterable[str]) -> str:
    """Return the message for an unknown `what`, with the nearest valid names."""
    nearest, name = ", ".join(nearest_names(name, valid)), name[:_LONGEST_NAME]
    return f"unknown {what} {name!r}: use {nearest}" if nearest else f"unknown {what} {name!r}"
