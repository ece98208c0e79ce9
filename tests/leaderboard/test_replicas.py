"""Claims about several replicas of the site that share a database and a secret."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from leaderboard.study.config import Voting
from leaderboard.study.database import reading
from leaderboard.study.schema import VOTES
from leaderboard.study.tokens import SECRET_VARIABLE, load_blinding
from leaderboard.study.votes import Vote, VotesDatabase
from tests.leaderboard.studies import study

STUDY = study()


@pytest.fixture
def replica(votes_place: str, tmp_path: Path) -> Iterator[Callable[[], Voting]]:
    """Return a function that starts a replica with its own folder on one database."""
    started: list[Voting] = []

    def start() -> Voting:
        folder = tmp_path / f"replica-{len(started)}"
        blinding = load_blinding(folder / "study-secret")
        started.append(Voting(VotesDatabase.open(votes_place), blinding))
        started[-1].database.add_study(STUDY, blinding)
        return started[-1]

    yield start
    for home in started:
        home.database.close()


def test_with_one_secret_a_rater_is_the_same_and_votes_once_on_all_replicas(replica, monkeypatch):
    monkeypatch.setenv(SECRET_VARIABLE, "one secret for all replicas of the site")
    one, other = replica(), replica()
    rater_id = one.blinding.rater_of(one.blinding.new_token())
    token = other.blinding.new_token()
    assert one.blinding.rater_of(token) == other.blinding.rater_of(token) not in (None, rater_id)

    pair = one.database.pairs(STUDY.study_id)[0]
    sides = [home.blinding.left_of(rater_id, pair.pair_id) for home in (one, other)]
    assert sides[0] == sides[1]
    vote = Vote(rater_id, pair.pair_id, "quality", "first", sides[0], 2.0)
    one.database.cast(vote)
    assert other.database.voted(rater_id, STUDY.study_id) == {(pair.pair_id, "quality")}
    other.database.cast(replace(vote, answer="second"))
    with reading(one.database.engine) as connection:
        assert [row.answer for row in connection.execute(select(VOTES))] == ["second"]


def test_without_a_shared_secret_a_replica_knows_no_rater_of_the_other(replica, monkeypatch):
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    one, other = replica(), replica()
    assert other.blinding.rater_of(one.blinding.new_token()) is None
