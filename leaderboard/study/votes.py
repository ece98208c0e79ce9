"""The votes of the human study: what is stored, under which rules.

A repeated vote of the same rater on the same question replaces the first one: raters may change
their mind, and sending a vote again after a broken connection is safe. `cast` and `rate` return
only after the commit has reached the disk.
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
from sqlalchemy.exc import IntegrityError, OperationalError

from bench.errors import UserError
from leaderboard.study.database import insert_into, open_engine, reading, writing
from leaderboard.study.design import Study
from leaderboard.study.limits import RateLimit, count_vote
from leaderboard.study.schema import (
    ANSWERS,
    PAIRS,
    PICTURES,
    QUESTIONS,
    RATINGS,
    SCALE,
    STUDIES,
    VOTES,
    Answer,
    Position,
    Question,
)
from leaderboard.study.tokens import Blinding, is_id

_MAX_SECONDS = 86_400.0
_ABOUT_NOTHING = "this vote is about nothing that the study shows"


class VoteError(UserError):
    """A vote that was not stored; the message says why."""


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
    """The database of the study; safe to use from many threads, processes and machines."""

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
        """The votes in a SQLite file, or a database by URL; made where there is none."""
        return cls(open_engine(place), limit=limit)

    def close(self) -> None:
        """Close every connection; the book opens new ones where it is used again."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- studies

    def add_study(self, study: Study, blinding: Blinding) -> None:
        """Store a study's pictures and pairs; does nothing where it is known already."""
        if self.study(study.study_id) is not None:
            return
        keys = {
            (p.plugin, p.trial_id): blinding.picture_key(study.study_id, p.trial_id, p.plugin)
            for p in study.pictures
        }
        with writing(self.engine) as connection:
            # the first to store the study holds the others back until its pairs are there too
            made = insert_into(connection, STUDIES).values(
                study_id=study.study_id,
                run_id=study.run_id,
                run_name=study.run_name,
                family=study.family,
                n_shared=study.n_shared,
                created=self._now(),
            )
            if connection.execute(made.on_conflict_do_nothing()).rowcount == 0:
                return
            connection.execute(PICTURES.insert(), _picture_rows(study, keys))
            connection.execute(PAIRS.insert(), _pair_rows(study, keys))

    def study(self, study_id: str) -> Row[Any] | None:
        """The row of `studies`, if it is there."""
        with reading(self.engine) as connection:
            found = select(STUDIES).where(STUDIES.c.study_id == study_id)
            return connection.execute(found).one_or_none()

    def study_ids(self) -> list[str]:
        """The ids of all studies, the oldest first."""
        with reading(self.engine) as connection:
            found = connection.execute(select(STUDIES.c.study_id).order_by(STUDIES.c.created))
            return list(found.scalars())

    def picture(self, picture_key: str) -> Row[Any] | None:
        """The picture of a key: its row of `pictures` and its study's `run_id`."""
        if not is_id(picture_key):
            return None
        both = select(PICTURES, STUDIES.c.run_id).join(STUDIES)
        with reading(self.engine) as connection:
            found = both.where(PICTURES.c.picture_key == picture_key)
            return connection.execute(found).one_or_none()

    def pairs(self, study_id: str) -> Sequence[Row[Any]]:
        """All pairs of a study by position: `pair_id`, the two keys, and what both share."""
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
        """All pictures of a study, by key."""
        query = select(PICTURES).where(PICTURES.c.study_id == study_id)
        with reading(self.engine) as connection:
            return connection.execute(query.order_by(PICTURES.c.picture_key)).all()

    # --- votes

    def cast(self, vote: Vote, *, address_code: str | None = None) -> None:
        """Store a vote durably, in place of an earlier one on the same question.

        Raises `VoteError` for a vote that says something impossible and for a database that
        cannot be reached, `TooFastError` beyond the rate limit; then nothing is stored.
        """
        _check(vote.rater_id, vote.question, vote.seconds)
        if vote.answer not in ANSWERS or vote.shown_left not in ("first", "second"):
            raise VoteError(f"{vote.answer!r} is no answer: use {', '.join(ANSWERS)}")
        values = {**vars(vote), "voted_at": self._now()}
        self._store(VOTES, values, target="pair_id", address_code=address_code)

    def rate(self, rating: Rating, *, address_code: str | None = None) -> None:
        """Store a rating durably; the same rules as for `cast`."""
        _check(rating.rater_id, rating.question, rating.seconds)
        if rating.rating is not None and rating.rating not in SCALE:
            raise VoteError(f"{rating.rating!r} is no rating: use 1 to 5")
        values = {**vars(rating), "rated_at": self._now()}
        self._store(RATINGS, values, target="picture_key", address_code=address_code)

    def voted(self, rater_id: str, study_id: str) -> set[tuple[str, str]]:
        """The (pair id, question) that a rater has answered."""
        query = select(VOTES.c.pair_id, VOTES.c.question).join(PAIRS)
        return self._answered(query.where(PAIRS.c.study_id == study_id), VOTES, rater_id)

    def rated(self, rater_id: str, study_id: str) -> set[tuple[str, str]]:
        """The (picture key, question) that a rater has rated."""
        query = select(RATINGS.c.picture_key, RATINGS.c.question).join(PICTURES)
        return self._answered(query.where(PICTURES.c.study_id == study_id), RATINGS, rater_id)

    def n_votes(self, study_id: str) -> int:
        """How many votes a study has, skips included."""
        query = select(func.count()).select_from(VOTES).join(PAIRS)
        with reading(self.engine) as connection:
            found = query.where(PAIRS.c.study_id == study_id)
            return connection.execute(found).scalar_one()

    def forget(self, rater_id: str) -> int:
        """Delete every vote and rating of a rater; how many there were."""
        with writing(self.engine) as connection:
            return sum(
                connection.execute(table.delete().where(table.c.rater_id == rater_id)).rowcount
                for table in (VOTES, RATINGS)
            )

    def _answered(self, query: Any, table: Any, rater_id: str) -> set[tuple[str, str]]:
        with reading(self.engine) as connection:
            rows = connection.execute(query.where(table.c.rater_id == rater_id)).all()
        return {tuple(row) for row in rows}

    def _store(
        self, table: Any, values: Mapping[str, Any], *, target: str, address_code: str | None
    ) -> None:
        if not is_id(values[target]):
            raise VoteError(_ABOUT_NOTHING)
        key = ["rater_id", target, "question"]
        changed = {name: value for name, value in values.items() if name not in key}
        try:
            with writing(self.engine) as connection:
                self._count(connection, values["rater_id"], address_code)
                row = insert_into(connection, table).values(**values)
                connection.execute(row.on_conflict_do_update(index_elements=key, set_=changed))
        except IntegrityError as error:
            raise VoteError(_ABOUT_NOTHING) from error
        except OperationalError as error:
            raise VoteError("the vote was not counted: the database did not answer") from error

    def _count(self, connection: Connection, rater_id: str, address_code: str | None) -> None:
        now = self._clock()
        limit = self._limit
        count_vote(connection, f"rater:{rater_id}", limit=limit.per_rater, now=now, clears=True)
        if address_code is not None:
            count_vote(connection, f"address:{address_code}", limit=limit.per_address, now=now)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _check(rater_id: str, question: str, seconds: float) -> None:
    if not is_id(rater_id):
        raise VoteError("the rater is unknown: load the page again")
    if question not in QUESTIONS:
        raise VoteError(f"{question!r} is no question: use {', '.join(QUESTIONS)}")
    if not (math.isfinite(seconds) and 0 <= seconds <= _MAX_SECONDS):
        raise VoteError(f"{seconds!r} seconds cannot be: load the page again")


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
