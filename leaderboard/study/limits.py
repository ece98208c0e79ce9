"""Rate limit, stored in the database so that it holds across replicas."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete

from bench.errors import UserError
from leaderboard.study.database import insert_into
from leaderboard.study.schema import RATE_WINDOWS

WINDOW_SECONDS = 60
_KEEP_WINDOWS = 60  # an hour


class TooFastError(UserError):
    """Rate limit exceeded; nothing was stored."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(f"too many votes in a short time: wait {wait_seconds} seconds")
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class RateLimit:
    """Votes per minute of one rater and of one network address (raters may share an address)."""

    per_rater: int = 120
    per_address: int = 600


def count_vote(
    connection: Connection, subject: str, *, limit: int, now: float, clears: bool = False
) -> None:
    """Count one vote of a subject in its minute; `TooFastError` beyond the limit.

    One atomic statement increments and reads the count, so that replicas cannot race. `clears`
    deletes counts older than an hour.
    """
    window = int(now) // WINDOW_SECONDS
    row = insert_into(connection, RATE_WINDOWS).values(subject=subject, window=window, n=1)
    counted = row.on_conflict_do_update(
        index_elements=["subject", "window"], set_={"n": RATE_WINDOWS.c.n + 1}
    ).returning(RATE_WINDOWS.c.n)
    n = connection.execute(counted).scalar_one()
    if n > limit:
        raise TooFastError(WINDOW_SECONDS - int(now) % WINDOW_SECONDS)
    if clears and n == 1:
        old = RATE_WINDOWS.c.window < window - _KEEP_WINDOWS
        connection.execute(delete(RATE_WINDOWS).where(old))
