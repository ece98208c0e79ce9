"""Tables of the human study, and their version; the same on SQLite and PostgreSQL.

A study is a fixed set of pictures and pairs, copied from a run when the study begins, so that votes
stay valid if the run changes. Constraints of the database restrict votes to known pairs and
answers, one row per rater, pair and question.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    inspect,
    select,
    text,
)

from bench.errors import UserError

SCHEMA_VERSION = 1
Question = Literal["quality", "fidelity"]
Answer = Literal["first", "second", "tie", "skip"]
Position = Literal["first", "second"]
QUESTIONS: tuple[Question, ...] = ("quality", "fidelity")
ANSWERS: tuple[Answer, ...] = ("first", "second", "tie", "skip")
SCALE = range(1, 6)  # of ratings
ID_LENGTH = 32  # hexadecimal digits of generated ids: 128 bits
_ADVISORY_LOCK = 0x7862656E6368  # "xbench": one process at a time creates the tables

_metadata = MetaData()


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"known_{column}")


VERSION = Table("study_schema", _metadata, Column("version", Integer, primary_key=True))

STUDIES = Table(
    "studies",
    _metadata,
    Column("study_id", String(ID_LENGTH), primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("run_name", Text, nullable=False),
    Column("family", Text, nullable=False),
    Column("n_shared", Integer, nullable=False),  # every rater starts with this many first pairs
    Column("created", DateTime(timezone=True), nullable=False),
)

PICTURES = Table(
    "pictures",
    _metadata,
    Column("picture_key", String(ID_LENGTH), primary_key=True),  # does not reveal the method
    Column("study_id", ForeignKey("studies.study_id"), nullable=False, index=True),
    Column("trial_id", Text, nullable=False),
    Column("plugin", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("t0", Float),
    Column("plugin_scale", Float),
    Column("adapter_scale", Float),
    Column("case_id", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("image", Text, nullable=False),  # relative to the run
    Column("condition_path", Text),  # relative to the run
)

PAIRS = Table(
    "pairs",
    _metadata,
    Column("pair_id", String(ID_LENGTH), primary_key=True),
    Column("study_id", ForeignKey("studies.study_id"), nullable=False),
    Column("first_key", ForeignKey("pictures.picture_key"), nullable=False),
    Column("second_key", ForeignKey("pictures.picture_key"), nullable=False),
    Column("position", Integer, nullable=False),
    UniqueConstraint("study_id", "position", name="one_pair_a_position"),
    CheckConstraint("first_key <> second_key", name="two_pictures"),
)

VOTES = Table(
    "votes",
    _metadata,
    Column("vote_id", Integer, primary_key=True),
    Column("rater_id", String(ID_LENGTH), nullable=False),
    Column("pair_id", ForeignKey("pairs.pair_id"), nullable=False),
    Column("question", String(16), nullable=False),
    Column("answer", String(16), nullable=False),
    Column("shown_left", String(16), nullable=False),
    Column("seconds", Float, nullable=False),  # from display to answer
    Column("voted_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("rater_id", "pair_id", "question", name="one_vote_a_question"),
    _one_of("question", QUESTIONS),
    _one_of("answer", ANSWERS),
    _one_of("shown_left", ("first", "second")),
    Index("votes_of_pair", "pair_id"),
)

RATINGS = Table(
    "ratings",
    _metadata,
    Column("rating_id", Integer, primary_key=True),
    Column("rater_id", String(ID_LENGTH), nullable=False),
    Column("picture_key", ForeignKey("pictures.picture_key"), nullable=False),
    Column("question", String(16), nullable=False),
    Column("rating", Integer),  # null: skipped
    Column("seconds", Float, nullable=False),
    Column("rated_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("rater_id", "picture_key", "question", name="one_rating_a_question"),
    _one_of("question", QUESTIONS),
    CheckConstraint("rating BETWEEN 1 AND 5", name="rating_1_to_5"),
    Index("ratings_of_picture", "picture_key"),
)

RATE_WINDOWS = Table(
    "rate_windows",
    _metadata,
    Column("subject", String(80), primary_key=True),
    Column("window", Integer, primary_key=True),  # minutes since 1970
    Column("n", Integer, nullable=False),
)

# tables that were added to version 1: programs that lack them ignore them
RATERS = Table(
    "study_raters",
    _metadata,
    Column("study_id", ForeignKey("studies.study_id"), primary_key=True),
    Column("rater_id", String(ID_LENGTH), primary_key=True),
    Column("network", String(ID_LENGTH)),  # pseudonym, of this study only; null: deleted
    Column("first_answer", DateTime(timezone=True), nullable=False),
    Index("raters_of_network", "network"),
)

EXCLUSIONS = Table(
    "exclusions",
    _metadata,
    Column("exclusion_id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.study_id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("subject", String(ID_LENGTH), nullable=False),  # a rater's id, a network's pseudonym
    Column("reason", Text, nullable=False),
    Column("excluded_at", DateTime(timezone=True), nullable=False),
    Column("lifted_at", DateTime(timezone=True)),  # null: in force
    _one_of("kind", ("rater", "network")),
)

# answers that their raters took back, as they were given
UNDONE = Table(
    "undone_answers",
    _metadata,
    Column("undone_id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.study_id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("rater_id", String(ID_LENGTH), nullable=False),
    Column("item", String(ID_LENGTH), nullable=False),  # the pair's id or the picture's key
    Column("question", String(16), nullable=False),
    Column("answer", String(16), nullable=False),  # of a rating: 1 to 5 or skip
    Column("shown_left", String(16)),  # null: a rating
    Column("seconds", Float, nullable=False),
    Column("answered_at", DateTime(timezone=True), nullable=False),
    Column("undone_at", DateTime(timezone=True), nullable=False),
    _one_of("kind", ("vote", "rating")),
    Index("undone_of_rater", "rater_id"),
)

# pictures whose method a rater has seen: the rater answers no further question about them
REVEALS = Table(
    "revealed_pictures",
    _metadata,
    Column("rater_id", String(ID_LENGTH), primary_key=True),
    Column("picture_key", ForeignKey("pictures.picture_key"), primary_key=True),
    Column("revealed_at", DateTime(timezone=True), nullable=False),
)


def prepare(connection: Connection) -> None:
    """Create the tables that are missing; `UserError` for tables of another version.

    Runs in the caller's write transaction, so that replicas starting together create them once.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    if not inspect(connection).has_table(VERSION.name):
        _metadata.create_all(connection)
        connection.execute(insert(VERSION).values(version=SCHEMA_VERSION))
        return
    found = connection.execute(select(VERSION.c.version)).scalars().all()
    if found != [SCHEMA_VERSION]:
        raise UserError(
            f"the votes database has schema version {found}, this program reads "
            f"{SCHEMA_VERSION}: use the program version that wrote it, or another database"
        )
    for added in (RATERS, EXCLUSIONS, UNDONE, REVEALS):
        added.create(connection, checkfirst=True)
