"""What a rater can do after an answer: take the last one back, or see which method was which.

An answer that is taken back moves to the table of undone answers, so it is counted nowhere and
stays on record. Methods are revealed once all questions about the pictures are answered; from then
on the rater answers no further question about these pictures, and takes no answer about them back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import OperationalError

from leaderboard.study.database import insert_into, reading, writing
from leaderboard.study.schema import (
    PAIRS,
    PICTURES,
    QUESTIONS,
    RATINGS,
    REVEALS,
    UNDONE,
    VOTES,
    Position,
    Question,
)
from leaderboard.study.votes import VoteError, VotesDatabase

Kind = Literal["vote", "rating"]


@dataclass(frozen=True)
class Given:
    """An answer as it is stored; `keys` are its pictures, of a pair the first and the second."""

    kind: Kind
    study_id: str
    rater_id: str
    item: str  # the pair's id or the picture's key
    keys: tuple[str, ...]
    question: Question
    answer: str
    shown_left: Position | None
    seconds: float
    answered_at: datetime
    is_closed: bool  # every question about the item is answered
    is_revealed: bool  # the rater has seen the method of a picture of it
    is_shown: bool  # and those of all its pictures


def last_answer(
    database: VotesDatabase, rater_id: str, study_id: str, *, kind: Kind
) -> Given | None:
    """Return a rater's last vote or rating in a study, skips included; None without any."""
    with reading(database.engine) as connection:
        row = connection.execute(_last_of(rater_id, study_id, kind)).first()
        if row is None:
            return None
        return _given(connection, row, kind)


def undo(database: VotesDatabase, given: Given, *, address_code: str | None = None) -> bool:
    """Take an answer back durably; return whether it was still there.

    Of several requests one succeeds. `VoteError` where a picture's method was shown to the rater.
    """
    table = VOTES if given.kind == "vote" else RATINGS
    column = table.c.pair_id if given.kind == "vote" else table.c.picture_key
    own = (table.c.rater_id == given.rater_id) & (table.c.question == given.question)
    try:
        with writing(database.engine) as connection:
            database.count_request(connection, given.rater_id, address_code)
            if _n_shown(connection, given.rater_id, given.keys):
                raise VoteError("the methods of these pictures were shown to you: it is final")
            gone = table.delete().where(own, column == given.item).returning(table)
            row = connection.execute(gone).first()
            if row is None:
                return False
            connection.execute(UNDONE.insert().values(**_record(given, row, database.now())))
    except OperationalError as error:
        raise VoteError("the answer was not taken back: the database did not respond") from error
    return True


def reveal(database: VotesDatabase, given: Given) -> None:
    """Record that the methods of an answer's pictures are shown to its rater.

    `VoteError` before every question about them is answered.
    """
    with writing(database.engine) as connection:
        if not _is_closed(connection, given.rater_id, given.item, given.kind):
            raise VoteError("the methods are shown once both questions are answered")
        for key in given.keys:
            values = {"rater_id": given.rater_id, "picture_key": key}
            row = insert_into(connection, REVEALS).values(**values, revealed_at=database.now())
            connection.execute(row.on_conflict_do_nothing())


def revealed(database: VotesDatabase, rater_id: str) -> frozenset[str]:
    """Return the keys of the pictures whose method a rater has seen."""
    query = select(REVEALS.c.picture_key).where(REVEALS.c.rater_id == rater_id)
    with reading(database.engine) as connection:
        return frozenset(connection.execute(query).scalars())


def _last_of(rater_id: str, study_id: str, kind: Kind) -> Any:
    if kind == "vote":
        query = select(
            *(PAIRS.c.study_id, VOTES.c.rater_id, VOTES.c.pair_id.label("item")),
            *(PAIRS.c.first_key, PAIRS.c.second_key, VOTES.c.question, VOTES.c.answer),
            *(VOTES.c.shown_left, VOTES.c.seconds, VOTES.c.voted_at.label("answered_at")),
        ).join(PAIRS, VOTES.c.pair_id == PAIRS.c.pair_id)
        own = (VOTES.c.rater_id == rater_id) & (PAIRS.c.study_id == study_id)
        return query.where(own).order_by(VOTES.c.voted_at.desc(), VOTES.c.vote_id.desc()).limit(1)
    query = select(
        *(PICTURES.c.study_id, RATINGS.c.rater_id, RATINGS.c.picture_key.label("item")),
        *(RATINGS.c.question, RATINGS.c.rating, RATINGS.c.seconds),
        RATINGS.c.rated_at.label("answered_at"),
    ).join(PICTURES, RATINGS.c.picture_key == PICTURES.c.picture_key)
    own = (RATINGS.c.rater_id == rater_id) & (PICTURES.c.study_id == study_id)
    newest = (RATINGS.c.rated_at.desc(), RATINGS.c.rating_id.desc())
    return query.where(own).order_by(*newest).limit(1)


def _given(connection: Connection, row: Row[Any], kind: Kind) -> Given:
    facts = row._mapping
    keys = (row.first_key, row.second_key) if kind == "vote" else (row.item,)
    n_shown = _n_shown(connection, row.rater_id, keys)
    return Given(
        kind=kind,
        study_id=row.study_id,
        rater_id=row.rater_id,
        item=row.item,
        keys=keys,
        question=row.question,
        answer=_answer(facts),
        shown_left=facts.get("shown_left"),
        seconds=row.seconds,
        answered_at=row.answered_at,
        is_closed=_is_closed(connection, row.rater_id, row.item, kind),
        is_revealed=n_shown > 0,
        is_shown=n_shown == len(keys),
    )


def _record(given: Given, row: Row[Any], now: datetime) -> dict[str, Any]:
    """Return the row of `UNDONE` of a deleted row of votes or ratings."""
    facts = row._mapping
    return {
        "study_id": given.study_id,
        "kind": given.kind,
        "rater_id": given.rater_id,
        "item": given.item,
        "question": row.question,
        "answer": _answer(facts),
        "shown_left": facts.get("shown_left"),
        "seconds": row.seconds,
        "answered_at": facts["voted_at" if given.kind == "vote" else "rated_at"],
        "undone_at": now,
    }


def _answer(facts: Mapping[Any, Any]) -> str:
    if "answer" in facts:
        return facts["answer"]
    return "skip" if facts["rating"] is None else str(facts["rating"])


def _is_closed(connection: Connection, rater_id: str, item: str, kind: Kind) -> bool:
    votes = select(VOTES.c.question).where(VOTES.c.rater_id == rater_id, VOTES.c.pair_id == item)
    own = (RATINGS.c.rater_id == rater_id) & (RATINGS.c.picture_key == item)
    answered = votes if kind == "vote" else select(RATINGS.c.question).where(own)
    return set(connection.execute(answered).scalars()) >= set(QUESTIONS)


def _n_shown(connection: Connection, rater_id: str, keys: Sequence[str]) -> int:
    own = (REVEALS.c.rater_id == rater_id) & REVEALS.c.picture_key.in_(keys)
    return len(connection.execute(select(REVEALS.c.picture_key).where(own)).all())
