"""Claims about stored votes, on SQLite and on PostgreSQL alike."""

import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from bench.errors import UserError
from leaderboard.study.database import open_engine, reading
from leaderboard.study.limits import RateLimit, TooFastError
from leaderboard.study.schema import RATE_WINDOWS, RATINGS, VERSION, VOTES
from leaderboard.study.votes import Rating, Vote, VoteError, VotesDatabase
from tests.leaderboard.studies import BLINDING, rows, study

RATER, OTHER = "a" * 32, "b" * 32
STUDY = study()
PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}  # 2: FULL


@pytest.fixture
def database(votes_place: str) -> Iterator[VotesDatabase]:
    with VotesDatabase.open(votes_place) as database:
        database.add_study(STUDY, BLINDING)
        yield database


@pytest.fixture
def open_database(votes_place: str) -> Iterator[Callable[..., VotesDatabase]]:
    """Return a function that opens more databases at the same place, closed after the test."""
    opened: list[VotesDatabase] = []

    def open_one(*, limit: RateLimit | None = None, clock=time.time) -> VotesDatabase:
        opened.append(VotesDatabase(open_engine(votes_place), limit=limit, clock=clock))
        return opened[-1]

    yield open_one
    for database in opened:
        database.close()


def vote(database: VotesDatabase, **changes) -> Vote:
    pair_id = database.pairs(STUDY.study_id)[0].pair_id
    return replace(Vote(RATER, pair_id, "quality", "first", "second", 2.5), **changes)


def stored(database: VotesDatabase, table=VOTES) -> list:
    with reading(database.engine) as connection:
        return list(connection.execute(select(table)).all())


def test_a_study_is_stored_once_however_often_it_is_added(database):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: database.add_study(STUDY, BLINDING), range(8)))
    assert len(database.pairs(STUDY.study_id)) == len(STUDY.pairs)
    assert len(database.pictures(STUDY.study_id)) == len(STUDY.pictures)


def test_keys_lead_to_their_picture_and_name_nothing(database):
    pair = database.pairs(STUDY.study_id)[0]
    first, _ = STUDY.pairs[0]
    found = database.picture(pair.first_key)
    assert found is not None
    assert (found.trial_id, found.image, found.run_id) == (first.trial_id, first.image, "run-1")
    for wrong in ("0" * 32, first.trial_id, "../../etc/passwd", ""):
        assert database.picture(wrong) is None


def test_a_vote_is_there_when_cast_returns_also_for_others(database, open_database):
    database.cast(vote(database))
    other = open_database()
    assert other.voted(RATER, STUDY.study_id) == {(vote(database).pair_id, "quality")}
    assert other.voted(OTHER, STUDY.study_id) == set()
    assert other.n_votes(STUDY.study_id) == 1
    (row,) = stored(other)
    assert (row.answer, row.shown_left, row.seconds) == ("first", "second", 2.5)


def test_a_repeated_vote_replaces_the_first(database):
    database.cast(vote(database))
    database.cast(vote(database, answer="tie", seconds=9.0))
    database.cast(vote(database, question="fidelity"))
    database.cast(vote(database, rater_id=OTHER))
    rows = {(row.rater_id, row.question): row.answer for row in stored(database)}
    assert rows == {
        (RATER, "quality"): "tie",
        (RATER, "fidelity"): "first",
        (OTHER, "quality"): "first",
    }


def test_the_database_itself_refuses_rows_that_may_not_be(database):
    database.cast(vote(database))
    at = stored(database)[0].voted_at
    changes = (
        {"rater_id": RATER},  # a second row of the same rater, pair and question
        {"answer": "left"},
        {"question": "beauty"},
        {"pair_id": "x"},
        {"shown_left": "up"},
    )
    for change in changes:
        row = {**vars(vote(database, rater_id=OTHER)), "voted_at": at, **change}
        with pytest.raises(DBAPIError), database.engine.begin() as connection:
            connection.execute(insert(VOTES).values(**row))
    assert len(stored(database)) == 1


def test_hostile_votes_are_refused_and_leave_nothing(database):
    unknown = "not about a pair or picture of the study"
    for change, message in (
        ({"rater_id": "<script>"}, "rater is unknown"),
        ({"pair_id": "0" * 32}, unknown),
        ({"pair_id": "'; DROP TABLE votes; --"}, unknown),
        ({"pair_id": "x" * 99}, unknown),
        ({"pair_id": "a\0b"}, unknown),
        ({"question": "beauty"}, "not a question"),
        ({"answer": "left"}, "not an answer"),
        ({"shown_left": "up"}, "not an answer"),
        ({"seconds": float("nan")}, "not a valid number of seconds"),
        ({"seconds": -1.0}, "not a valid number of seconds"),
        ({"seconds": 1e9}, "not a valid number of seconds"),
    ):
        with pytest.raises(VoteError, match=message):
            database.cast(vote(database, **change))
    assert stored(database) == [] and stored(database, RATE_WINDOWS) == []


def test_ratings_follow_the_same_rules(database):
    key = database.pictures(STUDY.study_id)[0].picture_key
    rating = Rating(RATER, key, "quality", 4, 1.5)
    database.rate(rating)
    database.rate(replace(rating, rating=5))
    database.rate(replace(rating, question="fidelity", rating=None))
    rows = {row.question: row.rating for row in stored(database, RATINGS)}
    assert rows == {"quality": 5, "fidelity": None}
    assert database.rated(RATER, STUDY.study_id) == {(key, "quality"), (key, "fidelity")}
    for wrong in ({"rating": 0}, {"rating": 6}, {"picture_key": "0" * 32}):
        with pytest.raises(VoteError):
            database.rate(replace(rating, **wrong))


def test_the_rate_limit_holds_over_replicas_and_ends_with_the_minute(open_database):
    now = [1_800_000_005.0]
    limit = RateLimit(per_rater=5, per_address=7)
    replicas = [open_database(limit=limit, clock=lambda: now[0]) for _ in range(2)]
    database = replicas[0]
    database.add_study(STUDY, BLINDING)
    pairs = database.pairs(STUDY.study_id)
    for n in range(5):
        replicas[n % 2].cast(vote(database, pair_id=pairs[n].pair_id), address_code="here")
    with pytest.raises(TooFastError, match="wait 55 seconds"):
        replicas[1].cast(vote(database, pair_id=pairs[9].pair_id), address_code="here")
    for n in range(2):
        database.cast(vote(database, rater_id=f"{n:032x}"), address_code="here")
    with pytest.raises(TooFastError):
        database.cast(vote(database, rater_id=OTHER), address_code="here")
    database.cast(vote(database, rater_id=OTHER), address_code="elsewhere")
    assert len(stored(database)) == 8
    now[0] += 60
    replicas[1].cast(vote(database, pair_id=pairs[9].pair_id), address_code="here")


def test_many_at_once_never_pass_the_rate_limit(open_database):
    database = open_database(limit=RateLimit(per_rater=6), clock=lambda: 1e9)
    database.add_study(STUDY, BLINDING)

    def is_taken(pair) -> bool:
        try:
            database.cast(vote(database, pair_id=pair.pair_id))
        except TooFastError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(is_taken, database.pairs(STUDY.study_id)[:24]))
    assert sum(taken) == len(stored(database)) == 6


def test_old_counts_are_swept_away(open_database):
    now = [1_800_000_000.0]
    database = open_database(clock=lambda: now[0])
    database.add_study(STUDY, BLINDING)
    database.cast(vote(database), address_code="here")
    now[0] += 2 * 3600
    database.cast(vote(database))
    assert len(stored(database, RATE_WINDOWS)) == 1


def test_a_rater_can_be_forgotten(database):
    database.cast(vote(database))
    database.cast(vote(database, rater_id=OTHER))
    database.rate(
        Rating(RATER, database.pictures(STUDY.study_id)[0].picture_key, "quality", 4, 1.5)
    )
    assert database.forget(RATER) == 2
    assert [row.rater_id for row in stored(database)] == [OTHER] and stored(database, RATINGS) == []


def test_a_database_of_another_version_is_refused(database, votes_place):
    with database.engine.begin() as connection:
        connection.execute(update(VERSION).values(version=99))
    with pytest.raises(UserError, match=r"schema version \[99\]"):
        VotesDatabase.open(votes_place)


def test_processes_that_start_together_make_the_tables_once(open_database):
    with ThreadPoolExecutor(6) as pool:
        books = list(pool.map(lambda _: open_database(), range(6)))
    with reading(books[0].engine) as connection:
        assert connection.execute(select(VERSION.c.version)).scalars().all() == [1]


def test_commits_wait_for_the_disk(database):
    with reading(database.engine) as connection:
        if database.engine.dialect.name == "sqlite":
            found = {n: connection.execute(text(f"PRAGMA {n}")).scalar() for n in PRAGMAS}
            assert found == PRAGMAS
        else:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
            assert connection.execute(text("SHOW fsync")).scalar() == "on"


def test_the_file_is_for_its_owner_alone(tmp_path):
    with VotesDatabase.open(tmp_path / "votes.sqlite") as database:
        database.add_study(STUDY, BLINDING)
        parts = list(tmp_path.glob("votes.sqlite*"))
        assert {stat.S_IMODE(part.stat().st_mode) for part in parts} == {0o600}
        assert len(parts) == 4  # the file, its write-ahead log, the log's index, the queue lock


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("mysql://me:hidden@host/votes", "cannot be stored"),
        ("postgresql://me:hidden@127.0.0.1:1/votes", "cannot be opened"),
        ("postgresql://127.0.0.1:1/votes?user=me&password=hidden", "cannot be opened"),
        ("postgresql://me:hidden@127.0.0.1:port/votes", "not a URL"),
        ("sqlite://", "cannot be stored"),
        ("://", "not a URL"),
    ],
)
def test_places_that_do_not_work_are_reported_without_the_password(place, message):
    with pytest.raises(UserError, match=message) as caught:
        VotesDatabase.open(place)
    assert "hidden" not in str(caught.value)


def test_a_database_that_goes_away_is_reported_without_its_address():
    url = "postgresql+psycopg://me:hidden@127.0.0.1:1/votes"
    with VotesDatabase(create_engine(url)) as database, pytest.raises(UserError) as caught:
        database.study_ids()
    assert str(caught.value) == "the votes database did not answer: try again in a moment"


def test_a_folder_or_another_file_is_refused_for_votes(tmp_path: Path):
    with pytest.raises(UserError, match="is a folder"):
        VotesDatabase.open(tmp_path)
    other = tmp_path / "notes.txt"
    other.write_text("no database at all, just some text that is long enough" * 30)
    with pytest.raises(UserError, match="cannot be opened"):
        VotesDatabase.open(other)


def test_a_study_that_the_database_does_not_take_is_one_error(votes_place):
    found = rows(n_cases=1)
    for row in found:
        row["upgraded_prompt"], row["seed"] = "a\0b", 2**40
    with VotesDatabase.open(votes_place) as database:
        if database.engine.dialect.name == "postgresql":
            with pytest.raises(UserError, match="cannot be stored"):
                database.add_study(study(found), BLINDING)
            assert database.study_ids() == []
        else:
            database.add_study(study(found), BLINDING)
            assert database.study_ids() == [study(found).study_id]
