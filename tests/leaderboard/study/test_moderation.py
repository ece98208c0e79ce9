"""Claims about new raters of one network, and about excluding them."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from sqlalchemy import insert, select, text

from bench.cli.main import main
from bench.errors import UserError
from bench.store.rows import records
from leaderboard.study.config import NEW_RATERS_VARIABLE, VOTES_VARIABLE, voting
from leaderboard.study.database import open_engine, reading
from leaderboard.study.export import VOTE_COLUMNS, code_of, rating_table, vote_table
from leaderboard.study.limits import RateLimit, TooFastError
from leaderboard.study.moderation import Change, forget_networks, moderate, origins
from leaderboard.study.results import (
    question_result,
    rating_rows,
    robust_ratings,
    robust_votes,
)
from leaderboard.study.schema import (
    EXCLUSIONS,
    PAIRS,
    PICTURES,
    RATERS,
    RATINGS,
    STUDIES,
    VOTES,
)
from leaderboard.study.tokens import SECRET_VARIABLE
from leaderboard.study.votes import Rating, Vote, VotesDatabase
from tests.leaderboard.studies import BLINDING, rows, study
from tests.leaderboard.voters import NO_LIMIT, TASTE, rater
from tests.scripts import load_script

pytestmark = pytest.mark.system

STUDY = study(rows(n_cases=2, plugins=("outline",), t0s=(0.8,)))
ORDER = sorted(TASTE, key=lambda name: -TASTE[name])
N_HONEST, N_FALSE = 6, 12
N_VOTES = (N_HONEST + N_FALSE) * len(STUDY.pairs)
N_FALSE_VOTES = N_FALSE * len(STUDY.pairs)


def network(number: int) -> str:
    return BLINDING.network_code(STUDY.study_id, f"192.0.{number}.1")


def write_votes(place: str | Path) -> None:
    """Store honest raters, each in a network, and more in one network who claim the opposite."""
    database = VotesDatabase.open(place, limit=NO_LIMIT)
    with database:
        database.add_study(STUDY, BLINDING)
        methods = {p.picture_key: p.method for p in database.pictures(STUDY.study_id)}
        for number in range(N_HONEST + N_FALSE):
            origin = {"network": network(min(number, N_HONEST))}
            for pair in database.pairs(STUDY.study_id):
                is_first = TASTE[methods[pair.first_key]] > TASTE[methods[pair.second_key]]
                answer = "first" if is_first == (number < N_HONEST) else "second"
                vote = Vote(rater(number), pair.pair_id, "quality", answer, "first", 1.0)
                database.cast(vote, **origin)
            for key in methods:
                stars = 4 if number < N_HONEST else 1
                database.rate(Rating(rater(number), key, "quality", stars, 1.0), **origin)


@pytest.fixture(scope="module")
def voted(tmp_path_factory):
    """Return a database that tests only read."""
    place = tmp_path_factory.mktemp("voted") / "votes.sqlite"
    write_votes(place)
    with VotesDatabase.open(place) as database:
        yield database


@pytest.fixture
def database(voted, votes_place):
    """Return a copy of it: casting each vote again takes seconds."""
    with VotesDatabase.open(votes_place) as database:
        for table in (STUDIES, PICTURES, PAIRS, RATERS, VOTES, RATINGS):
            kept = [column for column in table.c if column.name not in ("vote_id", "rating_id")]
            with reading(voted.engine) as connection:
                found = connection.execute(select(*kept)).mappings().all()
            copies = [{name: in_utc(value) for name, value in row.items()} for row in found]
            with database.engine.begin() as connection:
                connection.execute(insert(table), copies)
        yield database


def in_utc(value):
    """Return a value of SQLite, whose times have no zone, for other databases."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def order(found) -> list[str]:
    return [standing.name.split()[0] for standing in found.ranking.standings]


def test_many_false_raters_of_one_network_turn_the_raw_order_and_not_the_robust_one(database):
    votes = records(vote_table(database))
    assert order(question_result(votes, "quality")) == ORDER[::-1]
    robust = robust_votes(votes, "quality")
    assert order(question_result(robust.votes, "quality", robust.weights)) == ORDER
    assert robust.n_left_out == N_FALSE and not robust.is_raw
    ratings = records(rating_table(database))
    raw = rating_rows(ratings, family="pocket")
    kept, weights = robust_ratings(ratings)
    fair = rating_rows(kept, family="pocket", weights=weights)
    assert all(row["mean"] == pytest.approx((6 * 4 + 12 * 1) / 18) for row in raw)
    assert all(row["mean"] == pytest.approx((6 * 4 + 3 * 1) / 9) for row in fair)


def test_votes_without_a_network_count_as_a_network_each(tmp_path):
    with VotesDatabase.open(tmp_path / "votes.sqlite") as database:
        database.add_study(STUDY, BLINDING)
        pair = database.pairs(STUDY.study_id)[0].pair_id
        for number in range(30):
            database.cast(Vote(rater(number), pair, "quality", "first", "first", 1.0))
        votes = records(vote_table(database))
    assert {vote["network"] for vote in votes} == {None}
    assert robust_votes(votes, "quality").is_raw


def test_new_raters_of_a_network_are_limited_by_the_hour_and_known_ones_go_on(votes_place):
    now = [1_800_000_000.0]
    engine, limit = open_engine(votes_place), RateLimit(new_raters=3)
    with VotesDatabase(engine, limit=limit, clock=lambda: now[0]) as database:
        database.add_study(STUDY, BLINDING)
        pairs = [pair.pair_id for pair in database.pairs(STUDY.study_id)]

        def cast(number: int, at: int, pair: int = 0) -> None:
            vote = Vote(rater(number), pairs[pair], "quality", "first", "first", 1.0)
            database.cast(vote, network=network(at))

        for number in range(3):
            cast(number, 0)
        with pytest.raises(TooFastError, match="3 new raters in this hour: wait 3600 seconds"):
            cast(3, 0)
        cast(0, 0, pair=1)
        cast(3, 1)
        now[0] += 3600
        cast(4, 0)
        assert database.n_votes(STUDY.study_id) == 6


def test_an_exclusion_shows_what_changes_is_recorded_and_can_be_lifted(database):
    code = code_of(network(N_HONEST))
    change = [Change("network", code[:8], True)]
    shown = moderate(database, STUDY.study_id, change, reason="flood", dry_run=True)
    assert [vote["excluded"] for vote in records(vote_table(database))] == [None] * N_VOTES
    assert moderate(database, STUDY.study_id, change, reason="flood", dry_run=False) == shown
    assert [row["rank_after"] for row in shown] == [5 - row["raw"] for row in shown]
    votes = records(vote_table(database))
    assert {v["network"] for v in votes if v["excluded"] == "flood"} == {code}
    assert robust_votes(votes, "quality").n_excluded == N_FALSE
    moderate(database, STUDY.study_id, change, reason="again", dry_run=False)  # already in force
    lift = [Change("network", code, False)]
    moderate(database, STUDY.study_id, lift, reason="", dry_run=False)
    assert {vote["excluded"] for vote in records(vote_table(database))} == {None}
    with reading(database.engine) as connection:
        (kept,) = connection.execute(select(EXCLUSIONS)).all()
    assert kept.reason == "flood" and kept.lifted_at > kept.excluded_at


def test_a_rater_can_be_excluded_by_code_or_id(database):
    for code in (code_of(rater(9)), rater(9)):
        change = [Change("rater", code, True)]
        moderate(database, STUDY.study_id, change, reason="bot", dry_run=False)
        votes = records(vote_table(database))
        assert {v["rater"] for v in votes if v["excluded"]} == {code_of(rater(9))}


def test_an_unknown_code_changes_nothing(database):
    for code in ("", "0", "zzzzzzzz", "f" * 32, "'; DROP TABLE votes; --", "a\0b"):
        with pytest.raises(UserError, match="not the code of one network"):
            moderate(
                database, STUDY.study_id, [Change("network", code, True)], reason="x", dry_run=False
            )
    assert {vote["excluded"] for vote in records(vote_table(database))} == {None}


def test_networks_can_be_deleted_and_their_raters_stay_excluded(database):
    change = [Change("network", code_of(network(N_HONEST)), True)]
    moderate(database, STUDY.study_id, change, reason="flood", dry_run=False)
    assert forget_networks(database, STUDY.study_id) == N_HONEST + N_FALSE
    votes = records(vote_table(database))
    assert {vote["network"] for vote in votes} == {None}
    assert {v["rater"] for v in votes if v["excluded"]} == {code_of(rater(n)) for n in range(6, 18)}


def test_a_forgotten_rater_leaves_no_network_behind(database):
    moderate(database, STUDY.study_id, [Change("rater", rater(9), True)], reason="x", dry_run=False)
    database.forget(rater(9))
    with reading(database.engine) as connection:
        left = connection.execute(select(RATERS).where(RATERS.c.rater_id == rater(9))).all()
        assert left == [] and connection.execute(select(EXCLUSIONS)).all() == []


def test_a_list_names_the_network_that_disagrees(database):
    first = origins(database, STUDY.study_id)[0]
    assert (first["network"], len(first["raters"])) == (code_of(network(N_HONEST)), N_FALSE)
    assert (first["gold_right"], first["gold"]) == (0, N_FALSE * len(STUDY.pairs))


def test_the_command_lists_excludes_and_exports(tmp_path):
    place = tmp_path / "votes.sqlite"
    write_votes(place)
    code = code_of(network(N_HONEST))

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, ["votes", *arguments, "--votes", str(place)])
        assert done.exit_code == 0, done.output
        return done.output

    assert f"{code}      12    144" in run("moderate", STUDY.study_id)
    exclude = ["moderate", STUDY.study_id, "--exclude-network", code, "--reason", "flood"]
    assert "nothing was changed" in run(*exclude, "--dry-run")
    assert "stored" in run(*exclude) and "excluded: flood" in run("moderate", STUDY.study_id)
    run("export", "--out", str(tmp_path / "out"))
    table = pq.read_table(tmp_path / "out" / "votes.parquet")
    assert table.schema.names == VOTE_COLUMNS.names
    assert table.column("excluded").to_pylist().count("flood") == N_FALSE_VOTES
    assert network(N_HONEST).encode() not in (tmp_path / "out" / "votes.parquet").read_bytes()
    done = CliRunner().invoke(main, ["votes", *exclude[:-2], "--votes", str(place)])
    assert done.exit_code == 2 and "needs a --reason" in done.output


def test_a_database_of_before_gets_the_new_tables_and_keeps_its_votes(votes_place):
    with VotesDatabase.open(votes_place) as database:
        database.add_study(STUDY, BLINDING)
        pair = database.pairs(STUDY.study_id)[0].pair_id
        database.cast(Vote(rater(0), pair, "quality", "tie", "first", 1.0))
        with database.engine.begin() as connection:
            for name in ("study_raters", "exclusions"):
                connection.execute(text(f"DROP TABLE {name}"))
    with VotesDatabase.open(votes_place) as database:
        assert [vote["answer"] for vote in records(vote_table(database))] == ["tie"]


def test_a_network_has_another_code_in_each_study_and_its_neighbors_the_same():
    codes = {
        BLINDING.network_code(one, address)
        for one in ("a", "b")
        for address in ("192.0.2.1", "192.0.2.250", "::ffff:192.0.2.9")
    }
    assert len(codes) == 2
    assert BLINDING.network_code("a", "2001:db8:0:12::1") == BLINDING.network_code(
        "a", "2001:db8:0:34::1"
    )
    assert BLINDING.network_code("a", "2001:db8:1::1") != BLINDING.network_code("a", "2001:db8::1")


@pytest.mark.parametrize("given", ["0", "-1", "many", "", "1e3", "9999999", "\u0663"])
def test_a_limit_that_is_not_a_number_is_refused(tmp_path, monkeypatch, given):
    monkeypatch.setenv(VOTES_VARIABLE, str(tmp_path / f"{ord(given[:1] or '-')}.sqlite"))
    monkeypatch.setenv(SECRET_VARIABLE, "s" * 32)
    monkeypatch.setenv(NEW_RATERS_VARIABLE, given)
    with pytest.raises(UserError, match="from 1 to 999999"):
        voting()


def test_an_attack_from_one_address_is_mostly_refused_and_never_turns_the_robust_order(memory):
    script = load_script("load-votes")
    script.FALSE_VOTES = 600
    found = script.run_attack(memory / "votes.sqlite", limit=RateLimit())
    assert found["refused by the limits"] > 0.9 * 600
    assert found["robust order"] == found["true order"]
