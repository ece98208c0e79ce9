"""Claims about answers that are taken back and methods that are revealed, on both databases."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import select

from leaderboard.study.afterwards import Given, Kind, last_answer, reveal, revealed, undo
from leaderboard.study.database import reading
from leaderboard.study.export import vote_table
from leaderboard.study.moderation import origins
from leaderboard.study.results import question_result
from leaderboard.study.schema import QUESTIONS, RATINGS, REVEALS, UNDONE, VOTES
from leaderboard.study.tasks import next_pair, next_picture
from leaderboard.study.votes import Rating, Vote, VoteError, VotesDatabase
from tests.leaderboard.studies import BLINDING, study

RATER, OTHER = "a" * 32, "b" * 32
STUDY = study()


@pytest.fixture
def database(votes_place: str) -> Iterator[VotesDatabase]:
    with VotesDatabase.open(votes_place) as database:
        database.add_study(STUDY, BLINDING)
        yield database


def stored(database: VotesDatabase, table) -> list:
    with reading(database.engine) as connection:
        return list(connection.execute(select(table)).all())


def answer_pair(database: VotesDatabase, position: int = 0, rater: str = RATER) -> None:
    pair = database.pairs(STUDY.study_id)[position]
    for question in QUESTIONS:
        database.cast(Vote(rater, pair.pair_id, question, "first", "second", 2.5))


def last(database: VotesDatabase, kind: Kind = "vote", rater: str = RATER) -> Given:
    found = last_answer(database, rater, STUDY.study_id, kind=kind)
    assert found is not None
    return found


def test_an_undone_vote_counts_nowhere_and_stays_on_record(database):
    answer_pair(database)
    answer_pair(database, rater=OTHER)
    given = last(database)
    assert (given.question, given.answer, given.shown_left) == ("fidelity", "first", "second")
    assert undo(database, given)
    assert database.voted(RATER, STUDY.study_id) == {(given.item, "quality")}
    votes = vote_table(database, study_id=STUDY.study_id).to_dict("records")
    assert question_result(votes, "fidelity").n_votes == 1 and len(votes) == 3
    (row,) = stored(database, UNDONE)
    assert (row.kind, row.rater_id, row.item, row.question) == (
        "vote",
        RATER,
        given.item,
        "fidelity",
    )
    assert (row.answer, row.shown_left, row.seconds) == ("first", "second", 2.5)
    assert row.answered_at == given.answered_at and row.undone_at >= row.answered_at
    assert sum(origin["undone"] for origin in origins(database, STUDY.study_id)) == 1


def test_votes_are_taken_back_one_by_one_and_given_again(database):
    answer_pair(database)
    first = last(database)
    assert undo(database, first) and last(database).question == "quality"
    assert undo(database, last(database)) and database.voted(RATER, STUDY.study_id) == set()
    assert last_answer(database, RATER, STUDY.study_id, kind="vote") is None
    answer_pair(database)
    assert len(stored(database, VOTES)) == len(stored(database, UNDONE)) == 2


def test_of_many_requests_to_undo_an_answer_one_succeeds(database):
    answer_pair(database)
    given = last(database)
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: undo(database, given), range(6)))
    assert sum(done) == len(stored(database, UNDONE)) == len(stored(database, VOTES)) == 1


def test_nobody_takes_back_an_answer_of_another_rater(database):
    answer_pair(database)
    assert not undo(database, replace(last(database), rater_id=OTHER))
    assert len(stored(database, VOTES)) == 2 and not stored(database, UNDONE)


def test_ratings_and_skips_are_taken_back_too(database):
    key = database.pictures(STUDY.study_id)[0].picture_key
    database.rate(Rating(RATER, key, "quality", 4, 1.5))
    database.rate(Rating(RATER, key, "fidelity", None, 1.5))
    assert last(database, "rating").answer == "skip"
    assert undo(database, last(database, "rating")) and undo(database, last(database, "rating"))
    assert [row.answer for row in stored(database, UNDONE)] == ["skip", "4"]
    assert not stored(database, RATINGS)


def test_methods_are_revealed_only_after_both_questions(database):
    pair = database.pairs(STUDY.study_id)[0]
    database.cast(Vote(RATER, pair.pair_id, "quality", "first", "second", 2.5))
    with pytest.raises(VoteError, match="both questions"):
        reveal(database, last(database))
    assert not last(database).is_closed and revealed(database, RATER) == frozenset()
    database.cast(Vote(RATER, pair.pair_id, "fidelity", "skip", "second", 2.5))
    reveal(database, last(database))
    assert last(database).is_shown
    assert revealed(database, RATER) == {pair.first_key, pair.second_key}
    assert revealed(database, OTHER) == frozenset()


def test_answers_about_revealed_pictures_are_final(database):
    answer_pair(database)
    reveal(database, last(database))
    pairs = database.pairs(STUDY.study_id)
    keys = {pairs[0].first_key, pairs[0].second_key}
    sharing = next(p for p in pairs[1:] if keys & {p.first_key, p.second_key})
    for pair in (pairs[0], sharing):
        with pytest.raises(VoteError, match="final"):
            database.cast(Vote(RATER, pair.pair_id, "quality", "second", "second", 1.0))
        database.cast(Vote(OTHER, pair.pair_id, "quality", "second", "second", 1.0))
    with pytest.raises(VoteError, match="final"):
        database.rate(Rating(RATER, pairs[0].first_key, "quality", 5, 1.0))
    with pytest.raises(VoteError, match="final"):
        undo(database, last(database))
    own = [row for row in stored(database, VOTES) if row.rater_id == RATER]
    assert [row.answer for row in own] == ["first", "first"] and not stored(database, UNDONE)


def test_no_question_follows_about_a_revealed_picture(database):
    answer_pair(database)
    reveal(database, last(database))
    keys, seat = revealed(database, RATER), {"rater_id": RATER, "blinding": BLINDING}
    pairs, pictures = database.pairs(STUDY.study_id), database.pictures(STUDY.study_id)
    done = database.voted(RATER, STUDY.study_id)
    n_asked = 0
    while task := next_pair(pairs, done, n_shared=STUDY.n_shared, revealed=keys, **seat):
        assert not keys & {task.left_key, task.right_key}
        done.add((task.pair.pair_id, task.question))
        n_asked += 1
    assert 0 < n_asked < 2 * (len(pairs) - 1)
    rated: set = set()
    while task := next_picture(pictures, rated, revealed=keys, **seat):
        rated.add((task.picture.picture_key, task.question))
    assert len(rated) == 2 * (len(pictures) - 2)


def test_a_forgotten_rater_leaves_no_undone_answer_and_no_reveal(database):
    answer_pair(database)
    undo(database, last(database))
    answer_pair(database, 1)
    reveal(database, last(database))
    database.forget(RATER)
    assert not stored(database, UNDONE) and not stored(database, REVEALS)
