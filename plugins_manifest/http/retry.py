"""Retries with exponential back-off, for errors that time or a fresh address may cure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from plugins_manifest.errors import FetchError
from plugins_manifest.http.status import LONGEST_WAIT_SECONDS

_MAX_FRESH_URLS = 2
T = TypeVar("T")


def with_retries(
    attempt: Callable[[], T], *, max_tries: int = 6, sleep: Callable[[float], None] = time.sleep
) -> T:
    """Call `attempt` until it returns or raises an error that a retry cannot cure.

    Pauses double from 1 s to 30 s unless the server names another; the count restarts after an
    attempt that made progress.
    """
    n_failed = n_expired = 0
    while True:
        try:
            return attempt()
        except FetchError as error:
            if error.remedy not in ("back-off", "fresh-url"):
                raise
            n_failed = 1 if error.made_progress else n_failed + 1
            n_expired += error.remedy == "fresh-url"
            if n_failed >= max_tries or n_expired > _MAX_FRESH_URLS:
                raise
            pause_seconds = error.wait_seconds
            if pause_seconds is None and error.remedy == "back-off":
                pause_seconds = min(2.0 ** (n_failed - 1), LONGEST_WAIT_SECONDS)
        if pause_seconds:
            sleep(pause_seconds)
