"""Store and query the votes of the human study.

A repeated vote of the same rater on the same question replaces the first one: raters may change
their mind, and resending a vote after a lost connection is safe. `cast` and `rate` return only
after the commit is on disk.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, Row, func, select
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from bench.errors import UserError
from leaderboard.escape import quoted
from leaderboard.study.database import insert_into, open_engine, reading, writing
from leaderboard.study.design import Study
from leaderboard.study.limits import RateLimit, count_new_rater, count_vote
from leaderboard.study.schema import (
    ANSWERS,
    EXCLUSIONS,
    PAIRS,
    PICTURES,
    QUESTIONS,
    RATERS,
    RATINGS,
    REVEALS,
    SCALE,
    STUDIES,
    UNDONE,
    VOTES,
    Answer,
    Position,
    Question,
)
from leaderboard.study.tokens import Blinding, is_id

_MAX_SECONDS = 86_400.0
_UNKNOWN_ITEM = "this vote is not about a pair or picture of the study"


class VoteError(UserError):
    """A vote was rejected and not stored."""


@dataclass(frozen=True)
class Vote:
    """One rater's answer to one question about one pair."""

    rater_id: str
    pair_id: str
    question: Question
    answer: Answer
    shown_left: Position
    seconds: float


@dataclass(frozen=True)
class Rating:
    """One rater's rating of one picture from 1 to 5; None: skipped."""

    rater_id: str
    picture_key: str
    question: Question
    rating: int | None
    seconds: float


class VotesDatabase:
    """Database of the study; safe for concurrent use by threads, processes and hosts."""

    def __init__(
        self,
        engine: Engine,
        *,
        limit: RateLimit | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.engine = engine
        self._limit = limit or RateLimit()
        self._clock = clock

    @classmethod
    def open(cls, place: str | Path, *, limit: RateLimit | None = None) -> VotesDatabase:
        """Open a SQLite file or a database by URL; created if missing."""
        return cls(open_engine(place), limit=limit)

    def close(self) -> None:
        """Close all connections; later use opens new ones."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- studies

    def add_study(self, study: Study, blinding: Blinding) -> None:
        """Store a study's pictures and pairs, unless they are stored already."""
        if self.study(study.study_id) is not None:
            return
        keys = {
            (p.plugin, p.trial_id): blinding.picture_key(study.study_id, p.trial_id, p.plugin)
            for p in study.pictures
        }
        try:
            self._insert_study(study, keys)
        except DataError as error:  # PostgreSQL takes no zero bytes and no seeds above 2^31
            raise UserError(
                f"the study of run {quoted(study.run_name)} cannot be stored: it has a text or a "
                "number that the database does not take"
            ) from error

    def _insert_study(self, study: Study, keys: Mapping[tuple[str, str], str]) -> None:
        with writing(self.engine) as connection:
            # the row of the study blocks other writers until its pairs are stored too
            made = insert_into(connection, STUDIES).values(
                study_id=study.study_id,
                run_id=study.run_id,
                run_name=study.run_name,
                family=study.family,
                n_shared=study.n_shared,
                created=self.now(),
            )
            if connection.execute(made.on_conflict_do_nothing()).rowcount == 0:
                return
            connection.execute(PICTURES.insert(), _picture_rows(study, keys))
            connection.execute(PAIRS.insert(), _pair_rows(study, keys))

    def study(self, study_id: str) -> Row[Any] | None:
        """Return the study's row of `studies`, None if missing."""
        with reading(self.engine) as connection:
            found = select(STUDIES).where(STUDIES.c.study_id == study_id)
            return connection.execute(found).one_or_none()

    def study_ids(self) -> list[str]:
        """Return the ids of all studies, the oldest first."""
        with reading(self.engine) as connection:
            found = connection.execute(select(STUDIES.c.study_id).order_by(STUDIES.c.created))
            return list(found.scalars())

    def picture(self, picture_key: str) -> Row[Any] | None:
        """Return the row of `pictures` of a key with its study's `run_id`, None if unknown."""
        if not is_id(picture_key):
            return None
        both = select(PICTURES, STUDIES.c.run_id).join(STUDIES)
        with reading(self.engine) as connection:
            found = both.where(PICTURES.c.picture_key == picture_key)
            return connection.execute(found).one_or_none()

    def pairs(self, study_id: str) -> Sequence[Row[Any]]:
        """Return the pairs of a study by position: `pair_id`, the two keys, and shared columns."""
        shared = [PICTURES.c[name] for name in ("plugin", "kind", "case_id", "prompt", "seed")]
        query = (
            select(PAIRS, *shared, PICTURES.c.condition_path)
            .join(PICTURES, PAIRS.c.first_key == PICTURES.c.picture_key)
            .where(PAIRS.c.study_id == study_id)
            .order_by(PAIRS.c.position)
        )
        with reading(self.engine) as connection:
            return connection.execute(query).all()

    def pictures(self, study_id: str) -> Sequence[Row[Any]]:
        """Return the pictures of a study, sorted by key."""
        query = select(PICTURES).where(PICTURES.c.study_id == study_id)
        with reading(self.engine) as connection:
            return connection.execute(query.order_by(PICTURES.c.picture_key)).all()

    # --- votes

    def cast(
        self, vote: Vote, *, address_code: str | None = None, network: str | None = None
    ) -> None:
        """Store a vote durably, replacing an earlier one on the same question.

        `network` is the pseudonym of the rater's network. Raises `VoteError` for an invalid vote or
        an unreachable database, `TooFastError` beyond the limits of votes and of new raters; then
        nothing is stored.
        """
        _check(vote.rater_id, vote.question, vote.seconds)
        if vote.answer not in ANSWERS or vote.shown_left not in ("first", "second"):
            raise VoteError(f"{quoted(vote.answer)} is not an answer: use {', '.join(ANSWERS)}")
        values = {**vars(vote), "voted_at": self.now()}
        found = select(PAIRS.c.study_id).where(PAIRS.c.pair_id == vote.pair_id)
        self._store(VOTES, values, found, address_code=address_code, network=network)

    def rate(
        self, rating: Rating, *, address_code: str | None = None, network: str | None = None
    ) -> None:
        """Store a rating durably, by the rules of `cast`."""
        _check(rating.rater_id, rating.question, rating.seconds)
        if rating.rating is not None and rating.rating not in SCALE:
            raise VoteError(f"{quoted(rating.rating)} is not a rating: use 1 to 5")
        values = {**vars(rating), "rated_at": self.now()}
        found = select(PICTURES.c.study_id).where(PICTURES.c.picture_key == rating.picture_key)
        self._store(RATINGS, values, found, address_code=address_code, network=network)

    def voted(self, rater_id: str, study_id: str) -> set[tuple[str, str]]:
        """Return the (pair id, question) that a rater has answered."""
        query = select(VOTES.c.pair_id, VOTES.c.question).join(PAIRS)
        return self._answered(query.where(PAIRS.c.study_id == study_id), VOTES, rater_id)

    def rated(self, rater_id: str, study_id: str) -> set[tuple[str, str]]:
        """Return the (picture key, question) that a rater has rated."""
        query = select(RATINGS.c.picture_key, RATINGS.c.question).join(PICTURES)
        return self._answered(query.where(PICTURES.c.study_id == study_id), RATINGS, rater_id)

    def skipped(self, rater_id: str, study_id: str) -> int:
        """Count the questions about pairs that a rater skipped."""
        query = select(func.count()).select_from(VOTES).join(PAIRS)
        own = (VOTES.c.rater_id == rater_id) & (VOTES.c.answer == "skip")
        return self._counted(query.where(own, PAIRS.c.study_id == study_id))

    def unrated(self, rater_id: str, study_id: str) -> int:
        """Count the questions about single pictures that a rater skipped."""
        query = select(func.count()).select_from(RATINGS).join(PICTURES)
        own = (RATINGS.c.rater_id == rater_id) & RATINGS.c.rating.is_(None)
        return self._counted(query.where(own, PICTURES.c.study_id == study_id))

    def n_votes(self, study_id: str) -> int:
        """Count the votes of a study; a skipped question is not a vote."""
        query = select(func.count()).select_from(VOTES).join(PAIRS)
        own = (PAIRS.c.study_id == study_id) & (VOTES.c.answer != "skip")
        return self._counted(query.where(own))

    def forget(self, rater_id: str) -> int:
        """Delete all data of a rater; return the number of votes and ratings."""
        with writing(self.engine) as connection:
            connection.execute(RATERS.delete().where(RATERS.c.rater_id == rater_id))
            about = (EXCLUSIONS.c.kind == "rater") & (EXCLUSIONS.c.subject == rater_id)
            connection.execute(EXCLUSIONS.delete().where(about))
            for table in (UNDONE, REVEALS):
                connection.execute(table.delete().where(table.c.rater_id == rater_id))
            return sum(
                connection.execute(table.delete().where(table.c.rater_id == rater_id)).rowcount
                for table in (VOTES, RATINGS)
            )

    def _counted(self, query: Any) -> int:
        with reading(self.engine) as connection:
            return connection.execute(query).scalar_one()

    def _answered(self, query: Any, table: Any, rater_id: str) -> set[tuple[str, str]]:
        with reading(self.engine) as connection:
            rows = connection.execute(query.where(table.c.rater_id == rater_id)).all()
        return {tuple(row) for row in rows}

    def _store(
        self,
        table: Any,
        values: Mapping[str, Any],
        study: Any,
        *,
        address_code: str | None,
        network: str | None,
    ) -> None:
        """Store an answer about an item; `study` is the query of the item's study."""
        target = "pair_id" if table is VOTES else "picture_key"
        if not is_id(values[target]):
            raise VoteError(_UNKNOWN_ITEM)
        key = ["rater_id", target, "question"]
        changed = {name: value for name, value in values.items() if name not in key}
        try:
            with writing(self.engine) as connection:
                self.count_request(connection, values["rater_id"], address_code)
                _refuse_revealed(connection, values["rater_id"], target, values[target])
                row = insert_into(connection, table).values(**values)
                connection.execute(row.on_conflict_do_update(index_elements=key, set_=changed))
                if network is not None:
                    study_id = connection.execute(study).scalar_one()
                    self._register(connection, study_id, values["rater_id"], network)
        except IntegrityError as error:
            raise VoteError(_UNKNOWN_ITEM) from error
        except OperationalError as error:
            raise VoteError("the vote was not counted: the database did not respond") from error

    def _register(self, connection: Connection, study_id: str, rater_id: str, network: str) -> None:
        """Store a rater's network with the first answer; `TooFastError` for too many raters."""
        values = {"study_id": study_id, "rater_id": rater_id, "network": network}
        row = insert_into(connection, RATERS).values(**values, first_answer=self.now())
        added = row.on_conflict_do_nothing().returning(RATERS.c.rater_id)
        if connection.execute(added).first() is not None:
            limit = self._limit.new_raters
            count_new_rater(connection, network, limit=limit, now=self._clock())

    def count_request(
        self, connection: Connection, rater_id: str, address_code: str | None
    ) -> None:
        """Count one request of a rater in the caller's transaction; `TooFastError` for too many."""
        now = self._clock()
        limit = self._limit
        count_vote(connection, f"rater:{rater_id}", limit=limit.per_rater, now=now, clears=True)
        if address_code is not None:
            count_vote(connection, f"address:{address_code}", limit=limit.per_address, now=now)

    def now(self) -> datetime:
        """Return the time by the clock of this database."""
        return datetime.fromtimestamp(self._clock(), UTC)


def _refuse_revealed(connection: Connection, rater_id: str, target: str, item: str) -> None:
    """Raise `VoteError` for a picture, or a pair with one, whose method the rater has seen."""
    shown = REVEALS.c.picture_key == item
    if target == "pair_id":
        pair = select(PAIRS.c.first_key, PAIRS.c.second_key).where(PAIRS.c.pair_id == item)
        shown = REVEALS.c.picture_key.in_([k for row in connection.execute(pair) for k in row])
    found = select(REVEALS.c.picture_key).where(REVEALS.c.rater_id == rater_id, shown)
    if connection.execute(found).first() is not None:
        raise VoteError("the methods of these pictures were shown to you: the answers are final")


def _check(rater_id: str, question: str, seconds: float) -> None:
    if not is_id(rater_id):
        raise VoteError("the rater is unknown: reload the page")
    if question not in QUESTIONS:
        raise VoteError(f"{quoted(question)} is not a question: use {', '.join(QUESTIONS)}")
    if not (math.isfinite(seconds) and 0 <= seconds <= _MAX_SECONDS):
        raise VoteError(f"{quoted(seconds)} is not a valid number of seconds: reload the page")


def _picture_rows(study: Study, keys: Mapping[tuple[str, str], str]) -> list[dict[str, Any]]:
    rows = []
    for picture in study.pictures:
        facts = {name: value for name, value in vars(picture).items() if name != "arm"}
        key = keys[picture.plugin, picture.trial_id]
        rows.append({**facts, **vars(picture.arm), "picture_key": key, "study_id": study.study_id})
    return rows


def _pair_rows(study: Study, keys: Mapping[tuple[str, str], str]) -> list[dict[str, Any]]:
    return [
        {
            "pair_id": study.pair_id(pair),
            "study_id": study.study_id,
            "first_key": keys[pair[0].plugin, pair[0].trial_id],
            "second_key": keys[pair[1].plugin, pair[1].trial_id],
            "position": position,
        }
        for position, pair in enumerate(study.pairs)
    ]
