"""Export votes and ratings as tables of compared arms; raters and networks stay pseudonymous."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import ColumnElement, Connection, Row, Select, Table, select

from bench.errors import UserError, shown_path
from bench.store import records
from bench.store.files import write_table
from leaderboard.study.database import reading
from leaderboard.study.schema import (
    EXCLUSIONS,
    PAIRS,
    PICTURES,
    RATERS,
    RATINGS,
    STUDIES,
    VOTES,
)
from leaderboard.study.votes import VotesDatabase

_TEXT, _REAL, _WHOLE = pa.string(), pa.float64(), pa.int64()
_TIME = pa.timestamp("us", tz="UTC")
_ARM = ("trial_id", "method", "t0", "plugin_scale", "adapter_scale")
_SCENE = ("plugin", "kind", "case_id", "prompt", "seed")
_TYPES = {"t0": _REAL, "plugin_scale": _REAL, "adapter_scale": _REAL, "seed": _WHOLE}

_COMMON = [
    ("study_id", _TEXT),
    ("run_id", _TEXT),
    ("run_name", _TEXT),
    ("family", _TEXT),
    *((name, _TYPES.get(name, _TEXT)) for name in _SCENE),
    ("rater", _TEXT),  # a hash of the rater's id
    ("question", _TEXT),  # quality | fidelity
    ("seconds", _REAL),  # from display to answer
]
_ORIGIN = [
    ("network", _TEXT),  # a hash of the network's pseudonym; null: unknown, a network of its own
    ("excluded", _TEXT),  # reason of the operator; null: not excluded
]
VOTE_COLUMNS = pa.schema(
    [
        *_COMMON,
        ("answer", _TEXT),  # first | second | tie | skip
        ("shown_left", _TEXT),  # first | second
        ("voted_at", _TIME),
        *(
            (f"{side}_{name}", _TYPES.get(name, _TEXT))
            for side in ("first", "second")
            for name in _ARM
        ),
        *_ORIGIN,
    ]
)
RATING_COLUMNS = pa.schema(
    [
        *_COMMON,
        ("rating", _WHOLE),  # 1 to 5; null: skipped
        ("rated_at", _TIME),
        *((name, _TYPES.get(name, _TEXT)) for name in _ARM),
        *_ORIGIN,
    ]
)


def vote_table(database: VotesDatabase, *, study_id: str | None = None) -> pd.DataFrame:
    """Return all votes (of one study) with `VOTE_COLUMNS`."""
    first, second = PICTURES.alias("first_picture"), PICTURES.alias("second_picture")
    sides = [
        side.c[name].label(f"{label}_{name}")
        for label, side in (("first", first), ("second", second))
        for name in _ARM
    ]
    query = (
        select(STUDIES, *(first.c[name] for name in _SCENE), VOTES, *sides, RATERS.c.network)
        .select_from(VOTES)
        .join(PAIRS, VOTES.c.pair_id == PAIRS.c.pair_id)
        .join(STUDIES, PAIRS.c.study_id == STUDIES.c.study_id)
        .join(first, PAIRS.c.first_key == first.c.picture_key)
        .join(second, PAIRS.c.second_key == second.c.picture_key)
        .outerjoin(RATERS, _same_rater(VOTES))
        .order_by(VOTES.c.vote_id)
    )
    return _frame(database, query, VOTE_COLUMNS, study_id)


def rating_table(database: VotesDatabase, *, study_id: str | None = None) -> pd.DataFrame:
    """Return all ratings (of one study) with `RATING_COLUMNS`."""
    pictures = [PICTURES.c[name] for name in (*_SCENE, *_ARM)]
    query = (
        select(STUDIES, *pictures, RATINGS, RATERS.c.network)
        .select_from(RATINGS)
        .join(PICTURES, RATINGS.c.picture_key == PICTURES.c.picture_key)
        .join(STUDIES, PICTURES.c.study_id == STUDIES.c.study_id)
        .outerjoin(RATERS, _same_rater(RATINGS))
        .order_by(RATINGS.c.rating_id)
    )
    return _frame(database, query, RATING_COLUMNS, study_id)


def export_votes(
    database: VotesDatabase, folder: Path, *, study_id: str | None = None
) -> dict[str, int]:
    """Write votes.parquet and ratings.parquet into a folder; return their numbers of rows.

    `skipped` is how many of them are skipped questions, which are not answers.
    """
    tables = {
        "votes": (vote_table(database, study_id=study_id), VOTE_COLUMNS),
        "ratings": (rating_table(database, study_id=study_id), RATING_COLUMNS),
    }
    for name, (_, columns) in tables.items():
        _refuse_other_table(folder / f"{name}.parquet", columns)
    for name, (frame, columns) in tables.items():
        write_table(folder / f"{name}.parquet", frame, columns)
    votes, ratings = (records(frame) for frame, _ in tables.values())
    skips = [row for row in votes if row["answer"] == "skip"]
    skips += [row for row in ratings if row["rating"] is None]
    return {**{name: len(frame) for name, (frame, _) in tables.items()}, "skipped": len(skips)}


def _refuse_other_table(path: Path, columns: pa.Schema) -> None:
    """Raise `UserError` for a file that is not an earlier export."""
    if not (path.is_symlink() or path.exists()):
        return
    try:
        is_own = path.is_file() and pq.read_schema(path).names == columns.names
    except (pa.ArrowException, OSError, ValueError):
        is_own = False
    if not is_own:
        raise UserError(
            f"{shown_path(path)} exists and is not an export of votes: choose another --out"
        )


def code_of(identity: str) -> str:
    """Return the code of a rater or network in tables: a hash, 12 hexadecimal digits."""
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def _same_rater(table: Table) -> ColumnElement[bool]:
    return (RATERS.c.rater_id == table.c.rater_id) & (RATERS.c.study_id == STUDIES.c.study_id)


def _frame(
    database: VotesDatabase, query: Select[Any], columns: pa.Schema, study_id: str | None
) -> pd.DataFrame:
    if study_id is not None:
        query = query.where(STUDIES.c.study_id == study_id)
    with reading(database.engine) as connection:
        reasons = _exclusions(connection)
        rows = [_pseudonymous(row, reasons) for row in connection.execute(query)]
    frame = pd.DataFrame(rows, columns=pd.Index(columns.names))
    for name in ("voted_at", "rated_at"):
        if name in frame:
            frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame


def _exclusions(connection: Connection) -> dict[tuple[str, str], str]:
    """Return the reason of each exclusion in force by study and subject."""
    in_force = select(EXCLUSIONS).where(EXCLUSIONS.c.lifted_at.is_(None))
    return {(row.study_id, row.subject): row.reason for row in connection.execute(in_force)}


def _pseudonymous(row: Row[Any], reasons: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    facts = row._asdict()
    rater, network = facts.pop("rater_id"), facts.pop("network")
    found = [reasons.get((facts["study_id"], who)) for who in (rater, network) if who is not None]
    return {
        **facts,
        "rater": code_of(rater),
        "network": None if network is None else code_of(network),
        "excluded": next((reason for reason in found if reason is not None), None),
    }
