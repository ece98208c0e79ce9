"""Locate and open the server's votes and secret, shared by the pages and the image route."""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from platformdirs import user_data_path

from bench.errors import UserError
from leaderboard.escape import quoted
from leaderboard.study.limits import RateLimit
from leaderboard.study.tokens import SECRET_VARIABLE, Blinding, load_blinding
from leaderboard.study.votes import VotesDatabase

VOTES_VARIABLE = "XBENCH_VOTES"
NEW_RATERS_VARIABLE = "XBENCH_STUDY_NEW_RATERS"
COOKIE = "xbench_rater"
RETRY_SECONDS = 5
_LOG = logging.getLogger(__name__)
_closed_until: dict[str, float] = {}


@dataclass(frozen=True)
class Voting:
    """The votes of this server and the secret for blinding."""

    database: VotesDatabase
    blinding: Blinding


def votes_place() -> str:
    """Return the file or URL of the votes: XBENCH_VOTES, else a file in the user's data folder."""
    return os.environ.get(VOTES_VARIABLE) or str(_home() / "votes.sqlite")


def voting() -> Voting:
    """Open the votes once; `UserError` if they or the secret are unavailable.

    For a database by URL the error shown to visitors has no details, which are logged. A failed
    connection is retried after some seconds, not for each visitor.
    """
    place, secret = votes_place(), os.environ.get(SECRET_VARIABLE)
    if "://" not in place:
        return _open(place, secret)
    away = "votes cannot be stored at the moment: the reason is in the log of this site"
    if time.monotonic() < _closed_until.get(place, 0.0):
        raise UserError(away)
    try:
        return _open(place, secret)
    except UserError as error:
        _LOG.warning("%s", error)
        _closed_until[place] = time.monotonic() + RETRY_SECONDS
        raise UserError(away) from error


@lru_cache(maxsize=2)
def _open(place: str, _secret: str | None) -> Voting:
    blinding = load_blinding(_secret_path(place))
    return Voting(VotesDatabase.open(place, limit=_limit()), blinding)


def _limit() -> RateLimit:
    """Return the limits, the new raters per hour of a network from the environment."""
    given = os.environ.get(NEW_RATERS_VARIABLE)
    if given is None:
        return RateLimit()
    if not re.fullmatch(r"[1-9][0-9]{0,5}", given):
        raise UserError(f"{NEW_RATERS_VARIABLE} is {quoted(given)}: give a number from 1 to 999999")
    return RateLimit(new_raters=int(given))


def _secret_path(place: str) -> Path:
    """Return the path of the secret: next to a votes file, else in the user's data folder."""
    home = _home() if "://" in place else Path(place).expanduser().parent
    return home / "study-secret"


def _home() -> Path:
    return user_data_path("xbench", appauthor=False)
