"""Claims about votes under load: each acknowledged vote is stored once, despite kills."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from leaderboard.study.votes import Vote, VotesDatabase
from tests.leaderboard.conftest import emptied
from tests.leaderboard.studies import BLINDING, study

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[3]


def load(place: str, *, votes: int, kill: int) -> dict:
    """Run `scripts/load-votes` with 50 processes; return its output."""
    command = [sys.executable, "scripts/load-votes", "--votes-db", place, "--processes", "50"]
    command += ["--votes", str(votes), "--kill", str(kill)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout[: done.stdout.rindex("}") + 1])


def check(found: dict, *, votes: int, kill: int) -> None:
    assert (found["lost"], found["wrong"], found["doubled"]) == (0, 0, 0)
    assert found["killed"] == kill
    assert found["unacknowledged"] <= kill
    assert votes * (50 - kill) < found["acknowledged"]
    assert found["stored"] <= found["acknowledged"] + found["unacknowledged"]


def test_50_processes_of_which_3_are_killed_lose_and_double_no_vote(votes_place):
    check(load(votes_place, votes=6, kill=3), votes=6, kill=3)


@pytest.mark.slow
def test_50_processes_with_100_votes_each_of_which_10_are_killed(votes_place):
    check(load(votes_place, votes=100, kill=10), votes=100, kill=10)


def test_a_database_server_that_crashes_keeps_every_acknowledged_vote(postgres):
    found, rater = study(), "a" * 32
    with VotesDatabase.open(emptied(postgres)) as database:
        database.add_study(found, BLINDING)
        pairs = [pair.pair_id for pair in database.pairs(found.study_id)]
        for pair_id in pairs:
            database.cast(Vote(rater, pair_id, "quality", "tie", "first", 1.0))
        postgres.stop(mode="immediate")
        postgres.start()
        assert database.voted(rater, found.study_id) == {(pair_id, "quality") for pair_id in pairs}
