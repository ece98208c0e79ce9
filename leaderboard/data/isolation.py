"""Keep what one run's files do to its reader away from other runs, pages and the process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from bench.errors import UserError

Result = TypeVar("Result")
_LOG = logging.getLogger(__name__)


def isolated(read: Callable[[], Result], otherwise: Callable[[str], Result], *, run: str) -> Result:
    """Return what `read` returns; if it fails, `otherwise` of the line for the page.

    The only place of the leaderboard that catches every exception: files are data of others, and
    those that a reader does not survive must not take anything else down.
    """
    try:
        return read()
    except Exception as error:  # noqa: BLE001 (see above)
        _LOG.warning("run %r cannot be read", run, exc_info=error)
        return otherwise(f"This run cannot be read: {reason_of(error)}")


def reason_of(error: Exception) -> str:
    """Return a user error's text; of others, which may contain addresses, only the kind."""
    return str(error) if isinstance(error, UserError) else type(error).__name__
