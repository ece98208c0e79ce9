"""Exclude raters and networks from a study's robust results, reversibly; list who answered.

Answers are never changed: an exclusion is a row with its reason and time, lifting it another time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, Select, select, update

from bench.errors import UserError
from bench.store import Row, grouped, records
from leaderboard.escape import quoted
from leaderboard.study.database import reading, writing
from leaderboard.study.export import code_of, vote_table
from leaderboard.study.results import question_result, ranking_rows, robust_votes
from leaderboard.study.schema import (
    EXCLUSIONS,
    PAIRS,
    PICTURES,
    QUESTIONS,
    RATERS,
    RATINGS,
    UNDONE,
    VOTES,
    Question,
)
from leaderboard.study.votes import VotesDatabase

Kind = Literal["rater", "network"]
Who = tuple[Kind, str]  # with the code in exports, or (`_subjects`) with the stored identity
_MIN_CODE = 6


@dataclass(frozen=True)
class Change:
    """One change: exclude a rater or network, or lift its exclusion; by its code in exports."""

    kind: Kind
    code: str
    excludes: bool


def moderate(
    database: VotesDatabase, study_id: str, changes: Sequence[Change], *, reason: str, dry_run: bool
) -> list[Row]:
    """Apply changes, except in a dry run; return the ranks of each method before and after.

    Raises `UserError` for a code that no rater or network of the study has, or several have.
    """
    with reading(database.engine) as connection:
        subjects, before = _subjects(connection, study_id), _in_force(connection, study_id)
    resolved = [(_resolve(change, subjects), change.excludes) for change in changes]
    after = dict(before)
    for who, excludes in resolved:
        if excludes:
            after.setdefault(who, reason)
        else:
            after.pop(who, None)
    if not dry_run:
        with writing(database.engine) as connection:
            for who in after.keys() - before.keys():
                _exclude(connection, study_id, (who[0], subjects[who]), reason)
            for who in before.keys() - after.keys():
                _lift(connection, study_id, (who[0], subjects[who]))
    votes = records(vote_table(database, study_id=study_id))
    return _changed_ranks(votes, before, after)


def forget_networks(database: VotesDatabase, study_id: str) -> int:
    """Delete the networks of a study; return the number of raters that had one.

    Raters of excluded networks stay excluded, one by one.
    """
    with writing(database.engine) as connection:
        raters = connection.execute(select(RATERS).where(RATERS.c.study_id == study_id)).all()
        reasons = {
            row.subject: row.reason
            for row in connection.execute(_exclusions_of(study_id))
            if row.kind == "network"
        }
        for row in raters:
            if row.network in reasons:
                _exclude(connection, study_id, ("rater", row.rater_id), reasons[row.network])
        about = (EXCLUSIONS.c.study_id == study_id) & (EXCLUSIONS.c.kind == "network")
        connection.execute(EXCLUSIONS.delete().where(about))
        mine = RATERS.c.study_id == study_id
        connection.execute(update(RATERS).where(mine).values(network=None))
    return sum(row.network is not None for row in raters)


def origins(database: VotesDatabase, study_id: str) -> list[Row]:
    """Return one row per network with what it answered, most votes first.

    A rater of unknown network is a row without a network. `gold_right` of `gold` are the answers
    that agree with most other networks, over both questions; `skipped` questions are not votes, and
    `undone` answers were taken back.
    """
    votes = records(vote_table(database, study_id=study_id))
    undone = _undone(database, study_id)
    gold = [robust_votes(votes, question).gold for question in QUESTIONS]
    found = []
    for (network, _), rows in grouped(
        [{**v, "alone": None if v["network"] else v["rater"]} for v in votes], "network", "alone"
    ).items():
        raters = sorted({row["rater"] for row in rows})
        pairs = [part[rater] for part in gold for rater in raters if rater in part]
        times = [row["voted_at"] for row in rows]
        n_skipped = sum(row["answer"] == "skip" for row in rows)
        found.append(
            {
                "network": network,
                "raters": raters,
                "votes": len(rows) - n_skipped,
                "skipped": n_skipped,
                "undone": sum(undone[rater] for rater in raters),
                "first": min(times),
                "last": max(times),
                "gold_right": sum(right for right, _ in pairs),
                "gold": sum(n for _, n in pairs),
                "excluded": next((row["excluded"] for row in rows if row["excluded"]), None),
            }
        )
    return sorted(found, key=lambda row: -row["votes"])


def _undone(database: VotesDatabase, study_id: str) -> Counter[str]:
    """Return how many answers each rater took back, by the rater's code."""
    query = select(UNDONE.c.rater_id).where(UNDONE.c.study_id == study_id)
    with reading(database.engine) as connection:
        return Counter(code_of(rater) for rater in connection.execute(query).scalars())


def _subjects(connection: Connection, study_id: str) -> dict[Who, str]:
    """Return the stored identity of each rater and network of a study by its code."""
    answers = (
        select(VOTES.c.rater_id).join(PAIRS).where(PAIRS.c.study_id == study_id),
        select(RATINGS.c.rater_id).join(PICTURES).where(PICTURES.c.study_id == study_id),
    )
    raters = {rater for query in answers for rater in connection.execute(query).scalars()}
    known = select(RATERS.c.network).where(RATERS.c.study_id == study_id)
    networks = {network for network in connection.execute(known).scalars() if network}
    found: dict[Who, str] = {("rater", code_of(rater)): rater for rater in raters}
    found.update({("network", code_of(network)): network for network in networks})
    return found


def _in_force(connection: Connection, study_id: str) -> dict[Who, str]:
    found: dict[Who, str] = {}
    for row in connection.execute(_exclusions_of(study_id)):
        found[row.kind, code_of(row.subject)] = row.reason
    return found


def _exclusions_of(study_id: str) -> Select[Any]:
    return select(EXCLUSIONS).where(
        EXCLUSIONS.c.study_id == study_id, EXCLUSIONS.c.lifted_at.is_(None)
    )


def _resolve(change: Change, subjects: Mapping[Who, str]) -> Who:
    found: list[Who] = [
        (change.kind, code)
        for (kind, code), identity in subjects.items()
        if kind == change.kind
        and (
            identity == change.code
            or (len(change.code) >= _MIN_CODE and code.startswith(change.code))
        )
    ]
    if len(found) != 1:
        several = "several have" if found else "none has"
        raise UserError(
            f"{quoted(change.code)} is not the code of one {change.kind} of this study ({several} "
            "it): the command without options and the export list the codes"
        )
    return found[0]


def _exclude(connection: Connection, study_id: str, who: Who, reason: str) -> None:
    connection.execute(
        EXCLUSIONS.insert().values(
            study_id=study_id,
            kind=who[0],
            subject=who[1],
            reason=reason,
            excluded_at=datetime.now(UTC),
        )
    )


def _lift(connection: Connection, study_id: str, who: Who) -> None:
    connection.execute(
        update(EXCLUSIONS)
        .where(
            EXCLUSIONS.c.study_id == study_id,
            EXCLUSIONS.c.kind == who[0],
            EXCLUSIONS.c.subject == who[1],
            EXCLUSIONS.c.lifted_at.is_(None),
        )
        .values(lifted_at=datetime.now(UTC))
    )


def _changed_ranks(
    votes: Sequence[Row], before: Mapping[Who, str], after: Mapping[Who, str]
) -> list[Row]:
    rows = []
    for question in QUESTIONS:
        raw = ranking_rows(question_result(votes, question).ranking)
        old, new = (_ranks(votes, question, excluded) for excluded in (before, after))
        for row in raw:
            method = row["method"]
            rows.append(
                {
                    "question": question,
                    "method": method,
                    "raw": row["rank"],
                    **{f"{name}_before": value for name, value in old.get(method, _NONE).items()},
                    **{f"{name}_after": value for name, value in new.get(method, _NONE).items()},
                }
            )
    return rows


_NONE: Row = {"rank": None, "score": None}


def _ranks(votes: Sequence[Row], question: Question, excluded: Mapping[Who, str]) -> dict[str, Row]:
    """Return robust rank and chance to win of each method, without the excluded."""
    marked = [
        {
            **vote,
            "excluded": excluded.get(("network", vote["network"] or ""))
            or excluded.get(("rater", vote["rater"])),
        }
        for vote in votes
    ]
    kept = robust_votes(marked, question)
    ranking = question_result(kept.votes, question, kept.weights).ranking
    return {s.name: {"rank": s.rank, "score": s.score.value} for s in ranking.standings}
