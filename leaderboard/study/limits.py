"""Rate limit, stored in the database so that it holds across replicas."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete

from bench.errors import UserError
from leaderboard.study.database import insert_into
from leaderboard.study.schema import RATE_WINDOWS

WINDOW_SECONDS = 60
HOUR_SECONDS = 3600
_KEEP_WINDOWS = HOUR_SECONDS // WINDOW_SECONDS


class TooFastError(UserError):
    """Rate limit exceeded; nothing was stored."""

    def __init__(self, wait_seconds: int, what: str = "too many votes in a short time") -> None:
        super().__init__(f"{what}: wait {wait_seconds} seconds")
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class RateLimit:
    """Votes per minute of a rater and of a network address; new raters per hour of a network."""

    per_rater: int = 120
    per_address: int = 600
    new_raters: int = 10


def count_vote(
    connection: Connection, subject: str, *, limit: int, now: float, clears: bool = False
) -> None:
    """Count one vote of a subject in its minute; `TooFastError` beyond the limit.

    `clears` deletes counts older than an hour.
    """
    window = int(now) // WINDOW_SECONDS
    n = _increment(connection, subject, window)
    if n > limit:
        raise TooFastError(WINDOW_SECONDS - int(now) % WINDOW_SECONDS)
    if clears and n == 1:
        old = RATE_WINDOWS.c.window < window - _KEEP_WINDOWS
        connection.execute(delete(RATE_WINDOWS).where(old))


def count_new_rater(connection: Connection, network: str, *, limit: int, now: float) -> None:
    """Count one new rater of a network in its hour; `TooFastError` beyond the limit."""
    hour = int(now) // HOUR_SECONDS * (HOUR_SECONDS // WINDOW_SECONDS)
    if _increment(connection, f"network:{network}", hour) > limit:
        wait = HOUR_SECONDS - int(now) % HOUR_SECONDS
        raise TooFastError(wait, f"this network has had {limit} new raters in this hour")


def _increment(connection: Connection, subject: str, window: int) -> int:
    """Add 1 to a count in one atomic statement, so that replicas cannot race; return it."""
    row = insert_into(connection, RATE_WINDOWS).values(subject=subject, window=window, n=1)
    counted = row.on_conflict_do_update(
        index_elements=["subject", "window"], set_={"n": RATE_WINDOWS.c.n + 1}
    ).returning(RATE_WINDOWS.c.n)
    return connection.execute(counted).scalar_one()
