"""What can go wrong while fetching, each with a code for scripts and a next step for people."""

from __future__ import annotations

from typing import Literal

from plugins_manifest.errors import UserError

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
# What the fetcher itself tries before it gives up with the error.
RetryAdvice = Literal["none", "back-off", "fresh-url", "file-id", "mirror", "restart"]


class FetchError(UserError):
    """A file cannot be had; the message holds no token and no signed URL."""

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
    """A host that may not or cannot be reached; the message names the host, not the file."""
