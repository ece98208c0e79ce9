"""Trying again: what a busy server or a broken connection may give the next time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from plugins_manifest.fetch_errors import FetchError
from plugins_manifest.http.status import LONGEST_WAIT_SECONDS

_MAX_FRESH_URLS = 2
T = TypeVar("T")


def patiently(
    attempt: Callable[[], T], *, max_tries: int = 6, sleep: Callable[[float], None] = time.sleep
) -> T:
    """Call again, after a pause, while it raises errors that time or a new address may heal.

    The pauses double from 1 s to 30 s unless the server asks for another; a try that brought the
    work forward starts the count anew.
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
