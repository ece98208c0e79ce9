"""Claims about the results of votes by raters with known preferences."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from bench.cli.main import main
from bench.store.rows import records
from leaderboard.study.export import RATING_COLUMNS, VOTE_COLUMNS, rating_table, vote_table
from leaderboard.study.results import (
    question_result,
    ranking_rows,
    rating_agreement,
    rating_rows,
)
from leaderboard.study.votes import Vote, VotesDatabase
from tests.leaderboard.studies import BLINDING, rows, study
from tests.leaderboard.voters import NO_LIMIT, TASTE, rater, vote_all

STUDY = study(rows(n_cases=6, plugins=("outline",), t0s=(0.8,)))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Store a study with votes of six raters; tests only read it."""
    path = tmp_path_factory.mktemp("votes") / "votes.sqlite"
    with VotesDatabase.open(path, limit=NO_LIMIT) as database:
        database.add_study(STUDY, BLINDING)
        vote_all(database, STUDY, n_raters=6)
        pair = database.pairs(STUDY.study_id)[0]
        database.cast(Vote(rater(0), pair.pair_id, "fidelity", "skip", "first", 1.0))
    return path


@pytest.fixture(scope="module")
def votes(place) -> list[dict]:
    with VotesDatabase.open(place) as database:
        return records(vote_table(database, study_id=STUDY.study_id))


@pytest.fixture(scope="module")
def ratings(place) -> list[dict]:
    with VotesDatabase.open(place) as database:
        return records(rating_table(database, study_id=STUDY.study_id))


def test_the_ranking_finds_the_raters_taste(votes):
    found = question_result(votes, "quality")
    assert [row["method"] for row in ranking_rows(found.ranking)] == [
        "xadapter t0 0.8",
        "sdedit t0 0.8",
        "base",
        "floor",
    ]
    for standing in found.ranking.standings:
        truth = TASTE[standing.name.split()[0]]
        assert standing.strength.low < truth < standing.strength.high
    assert found.n_votes == 6 * len(STUDY.pairs) and found.n_skipped == 0
    assert found.agreement.n == len(STUDY.pairs) and 0 < found.agreement.value < 0.3
    assert found.left_share == pytest.approx(0.5, abs=0.1)
    assert found.median_seconds == 2.0


def test_skips_count_nowhere(votes):
    found = question_result(votes, "fidelity")
    assert (found.n_votes, found.n_skipped) == (0, 1)
    assert found.ranking.standings == [] and found.agreement.value is None
    assert found.left_share is None and found.median_seconds is None


def test_ratings_are_means_over_raters_and_their_spread(ratings):
    found = {row["method"]: row for row in rating_rows(ratings, family="pocket")}
    frame = pd.DataFrame(ratings)
    means = frame[frame["method"] == "base"].groupby("rater")["rating"].mean()
    assert found["base"]["mean"] == pytest.approx(means.mean())
    assert found["base"]["sd"] == pytest.approx(means.std())
    assert (found["base"]["raters"], found["base"]["ratings"]) == (6, 36)
    assert found["xadapter t0 0.8"]["mean"] > found["sdedit t0 0.8"]["mean"]
    assert rating_agreement(ratings, "quality").value > 0.5


def test_the_papers_figures_stand_beside_its_own_family_only(ratings):
    assert all(row["paper_mean"] is None for row in rating_rows(ratings, family="sd15-sd21"))
    beside = {row["method"]: row for row in rating_rows(ratings, family="sd15-sdxl")}
    assert (beside["base"]["paper_mean"], beside["base"]["paper_sd"]) == (2.93, 0.09)
    assert beside["xadapter t0 0.8"]["paper_mean"] == 4.38
    assert beside["floor"]["paper_mean"] is None


def test_one_rater_gives_a_mean_without_a_spread(ratings):
    one = [row for row in ratings if row["rater"] == ratings[0]["rater"]]
    assert all(row["sd"] is None and row["raters"] == 1 for row in rating_rows(one, family="x"))


def test_export_writes_every_vote_with_what_was_compared_and_no_rater_id(place, tmp_path):
    command = ["votes", "export", "--votes", str(place), "--out", str(tmp_path)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    n_votes, n_ratings = 6 * len(STUDY.pairs) + 1, 6 * len(STUDY.pictures)
    assert f"{n_votes} votes and {n_ratings} ratings" in done.output
    votes = pd.read_parquet(tmp_path / "votes.parquet")
    assert list(votes.columns) == VOTE_COLUMNS.names and len(votes) == n_votes
    assert votes["rater"].nunique() == 6
    assert set(votes["first_method"]) | set(votes["second_method"]) == set(TASTE)
    assert votes.notna().all()[["plugin", "prompt", "answer", "shown_left", "voted_at"]].all()
    ratings = pd.read_parquet(tmp_path / "ratings.parquet")
    assert list(ratings.columns) == RATING_COLUMNS.names and len(ratings) == n_ratings
    for path in tmp_path.glob("*.parquet"):
        content = path.read_bytes()
        assert not any(rater(n).encode() in content for n in range(6))


def test_commands_report_errors(tmp_path, place):
    for command, message in (
        (["export", "--votes", str(tmp_path / "none"), "--out", "x"], "there are no votes"),
        (["export", "--votes", str(place), "--study", "x", "--out", "x"], "no study 'x'"),
        (["forget", "--votes", str(place), "me"], "'me' is not a rater id"),
    ):
        done = CliRunner().invoke(main, ["votes", *command])
        assert done.exit_code == 2 and message in done.output


def test_forget_deletes_a_raters_rows(tmp_path):
    path = tmp_path / "votes.sqlite"
    with VotesDatabase.open(path) as database:
        database.add_study(STUDY, BLINDING)
        pair = database.pairs(STUDY.study_id)[0]
        database.cast(Vote(rater(1), pair.pair_id, "quality", "tie", "first", 1.0))
        done = CliRunner().invoke(main, ["votes", "forget", "--votes", str(path), rater(1)])
        assert done.exit_code == 0 and "1 votes and ratings deleted" in done.output
        assert database.n_votes(STUDY.study_id) == 0
