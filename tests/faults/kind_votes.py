"""Forged tokens, floods and hostile moderation: no one votes for others or turns a ranking."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

from itsdangerous import TimestampSigner

from bench.store import records
from leaderboard.study.database import open_engine
from leaderboard.study.design import Study
from leaderboard.study.export import code_of, export_votes, vote_table
from leaderboard.study.limits import RateLimit, TooFastError
from leaderboard.study.moderation import Change, forget_networks, moderate, origins
from leaderboard.study.results import question_result, robust_votes
from leaderboard.study.votes import Rating, Vote, VotesDatabase
from tests.faults.base import Fault, Kind, refuses
from tests.leaderboard.studies import BLINDING, rows, study
from tests.leaderboard.voters import NO_LIMIT, TASTE, rater

STUDY: Study = study(rows(n_cases=2, plugins=("outline",), t0s=(0.8,)))
ORDER = sorted(TASTE, key=lambda name: -TASTE[name])
N_HONEST = 8


@cache
def _template() -> Path:
    """Return the database of a study with the answers of honest raters."""
    folder = Path(tempfile.mkdtemp(prefix="xbench-votes-"))
    board = Board(folder, is_new=True)
    board.vote_honestly()
    board.database.close()
    return folder / "votes.sqlite"


class Board:
    """A study with honest raters, each in a network of their own."""

    def __init__(self, folder: Path, *, limit: RateLimit = NO_LIMIT, is_new: bool = False) -> None:
        self.now = 1_800_000_000.0
        path = folder / "votes.sqlite"
        if not is_new:
            shutil.copy(_template(), path)
        self.database = VotesDatabase(open_engine(path), limit=limit, clock=lambda: self.now)
        self.database.add_study(STUDY, BLINDING)
        methods = {p.picture_key: p.method for p in self.database.pictures(STUDY.study_id)}
        self.better = {
            pair.pair_id: TASTE[methods[pair.first_key]] > TASTE[methods[pair.second_key]]
            for pair in self.database.pairs(STUDY.study_id)
        }

    def vote_honestly(self) -> None:
        """Answer every pair as each honest rater."""
        for n in range(N_HONEST):
            for pair_id in self.better:
                self.cast(n, pair_id, is_true=True, network=f"198.51.{n}.1")

    def cast(self, number: int, pair_id: str, *, is_true: bool, network: str | None) -> None:
        """Cast a vote for the better or the worse picture."""
        answer: Any = "first" if self.better[pair_id] == is_true else "second"
        code = BLINDING.network_code(STUDY.study_id, network) if network else None
        vote = Vote(rater(number), pair_id, "quality", answer, "first", 1.0)
        self.database.cast(vote, network=code)

    def robust_order(self) -> list[str]:
        """Return the methods by the robust result."""
        kept = robust_votes(records(vote_table(self.database)), "quality")
        ranking = question_result(kept.votes, "quality", kept.weights).ranking
        return [standing.name.split()[0] for standing in ranking.standings]

    def state(self) -> list[dict[str, Any]]:
        """Return all votes."""
        return records(vote_table(self.database))


# --- tokens


def _token(_: Path, *, forge: Callable[[str], str | None]) -> None:
    token = BLINDING.new_token()
    assert BLINDING.rater_of(token) is not None
    assert BLINDING.rater_of(forge(token)) is None


def _signed(text: str, *, secret: bytes = BLINDING.secret, salt: str = "xbench-rater") -> str:
    import hashlib

    return TimestampSigner(secret, salt=salt, digest_method=hashlib.sha256).sign(text).decode()


def _expired(_: str) -> str:
    class Old(TimestampSigner):
        def get_timestamp(self) -> int:
            return super().get_timestamp() - 181 * 86_400

    import hashlib

    signer = Old(BLINDING.secret, salt="xbench-rater", digest_method=hashlib.sha256)
    return signer.sign("a" * 32).decode()


def _tokens() -> Iterator[tuple[str, Callable[[str], str | None]]]:
    yield "empty", lambda token: ""
    yield "missing", lambda token: None
    yield "cut off", lambda token: token[:-1]
    yield "without signature", lambda token: token.rsplit(".", 1)[0]
    yield "of another rater", lambda token: "b" * 32 + token[32:]
    yield "with another secret", lambda token: _signed("a" * 32, secret=b"x" * 32)
    yield "with another salt", lambda token: _signed("a" * 32, salt="itsdangerous")
    yield "of another kind", lambda token: _signed("admin")
    yield "in capitals", lambda token: _signed("A" * 32)
    yield "expired", _expired
    yield "of 1 MB", lambda token: token * 10_000
    yield "with a zero byte", lambda token: token + "\0"
    yield "not ASCII", lambda token: token[:-1] + "\u00e9"
    yield "of dots", lambda token: "." * 100


# --- votes


def _vote(folder: Path, *, change: dict[str, Any]) -> None:
    board = Board(folder)
    before = board.state()
    pair_id = next(iter(board.better))
    vote = {"rater_id": rater(99), "pair_id": pair_id, "question": "quality", "answer": "first"}
    vote |= {"shown_left": "first", "seconds": 1.0}
    refuses(lambda: board.database.cast(Vote(**{**vote, **change})))
    assert board.state() == before


def _rating(folder: Path, *, change: dict[str, Any]) -> None:
    board = Board(folder)
    key = board.database.pictures(STUDY.study_id)[0].picture_key
    rating = {"rater_id": rater(99), "picture_key": key, "question": "quality", "rating": 3}
    refuses(lambda: board.database.rate(Rating(**{**rating, "seconds": 1.0, **change})))
    assert board.database.rated(rater(99), STUDY.study_id) == set()


def _repeated(folder: Path, *, n: int) -> None:
    board = Board(folder)
    before, pair_id = len(board.state()), next(iter(board.better))
    for i in range(n):
        board.cast(99, pair_id, is_true=i % 2 == 0, network="203.0.113.1")
    assert len(board.state()) == before + 1
    (own,) = [v for v in board.state() if v["rater"] == code_of(rater(99))]
    assert (own["answer"] == "first") == (board.better[pair_id] == (n % 2 == 1))


def _flood(
    folder: Path, *, n_raters: int, n_pairs: int, addresses: list[str], limited: bool
) -> None:
    """Vote for the worse pictures as many raters of one network."""
    board = Board(folder, limit=RateLimit(per_rater=10**6) if limited else NO_LIMIT)
    stored = 0
    for n in range(n_raters):
        for pair_id in itertools.islice(board.better, n_pairs):
            try:
                board.cast(100 + n, pair_id, is_true=False, network=addresses[n % len(addresses)])
                stored += 1
            except TooFastError:
                break
    assert board.robust_order() == ORDER
    if limited:
        assert stored <= RateLimit().new_raters * n_pairs


def _lazy(folder: Path, *, n_raters: int, seed: int) -> None:
    """Vote at random as many raters of one network, which gold pairs alone do not find."""
    board, rng = Board(folder), Random(seed)
    for n in range(n_raters):
        for pair_id in board.better:
            is_true = rng.random() < 0.6
            board.cast(100 + n, pair_id, is_true=is_true, network="203.0.113.1")
    assert board.robust_order() == ORDER


# --- moderation


def _code(folder: Path, *, kind: Any, code: str) -> None:
    board = Board(folder)
    before = board.state()
    change = [Change(kind, code, True)]
    refuses(
        lambda: moderate(board.database, STUDY.study_id, change, reason="x", dry_run=False),
        "is not the code",
    )
    assert board.state() == before


def _reversible(folder: Path, *, reason: str) -> None:
    """Exclude each network and rater in turn and readmit it: nothing else changes."""
    board = Board(folder)
    before = board.state()
    row = origins(board.database, STUDY.study_id)[0]
    for kind, code in (("network", row["network"]), ("rater", row["raters"][0])):
        for excludes in (True, False):
            change = [Change(kind, code, excludes)]  # type: ignore[arg-type]
            moderate(board.database, STUDY.study_id, change, reason=reason, dry_run=False)
            found = {v["excluded"] for v in board.state() if v["rater"] in row["raters"]}
            assert found == ({reason} if excludes else {None})
    assert board.state() == before


def _all_excluded(folder: Path) -> None:
    board = Board(folder)
    changes = [
        Change("network", row["network"], True) for row in origins(board.database, STUDY.study_id)
    ]
    shown = moderate(board.database, STUDY.study_id, changes, reason="all", dry_run=False)
    assert {row["rank_after"] for row in shown} == {None} and board.robust_order() == []
    export_votes(board.database, folder)


def _forgotten(folder: Path) -> None:
    board = Board(folder)
    changes = [Change("rater", code_of(rater(0)), True)]
    moderate(board.database, STUDY.study_id, changes, reason="x", dry_run=False)
    assert forget_networks(board.database, STUDY.study_id) == N_HONEST
    assert board.database.forget(rater(0)) == len(board.better)
    assert {(v["network"], v["excluded"]) for v in board.state()} == {(None, None)}


VOTE_CHANGES: dict[str, dict[str, Any]] = {
    "an unknown pair": {"pair_id": "0" * 32},
    "SQL as a pair": {"pair_id": "'; DROP TABLE votes; --"},
    "a zero byte": {"pair_id": "a\0b"},
    "a pair of 1 MB": {"pair_id": "x" * (1 << 20)},
    "an unknown question": {"question": "beauty"},
    "an unknown answer": {"answer": "left"},
    "an unknown side": {"shown_left": "up"},
    "NaN seconds": {"seconds": float("nan")},
    "endless seconds": {"seconds": float("inf")},
    "negative seconds": {"seconds": -1.0},
    "a rater's name": {"rater_id": "me"},
    "a rater of 1 MB": {"rater_id": "a" * (1 << 20)},
    "a rater in capitals": {"rater_id": "A" * 32},
    "half a surrogate": {"rater_id": "\ud800" * 32},
}
RATING_CHANGES: dict[str, dict[str, Any]] = {
    "0": {"rating": 0},
    "6": {"rating": 6},
    "2.5": {"rating": 2.5},
    "10^30": {"rating": 10**30},
    "an unknown picture": {"picture_key": "0" * 32},
    "a path": {"picture_key": "../../etc/passwd"},
}


def _named() -> Iterator[tuple[str, Callable[[Path], None]]]:
    one, many = ["203.0.113.1"], [f"203.0.113.{n}" for n in range(1, 255)]
    six = [f"2001:db8:0:{n:x}::1" for n in range(256)]
    flood = partial(_flood, n_pairs=12)
    yield "30 false raters, limits", partial(flood, n_raters=30, addresses=one, limited=True)
    yield "30 false raters", partial(flood, n_raters=30, addresses=one, limited=False)
    yield "30 of a /24, limits", partial(flood, n_raters=30, addresses=many, limited=True)
    yield "30 of a /56, limits", partial(flood, n_raters=30, addresses=six, limited=True)
    yield "30 of a /56", partial(flood, n_raters=30, addresses=six, limited=False)
    for title, forge in _tokens():
        yield f"token {title}", partial(_token, forge=forge)
    for title, change in VOTE_CHANGES.items():
        yield f"vote with {title}", partial(_vote, change=change)
    for title, change in RATING_CHANGES.items():
        yield f"rating of {title}", partial(_rating, change=change)
    yield "50 repeated votes", partial(_repeated, n=50)
    kinds = ("rater", "network")
    for kind, code in itertools.product(
        kinds, ("", "0", "%", "zzzzzzzz", "f" * 32, "a\0b", "x" * 10**6)
    ):
        yield f"{kind} {code[:8]!r} is excluded", partial(_code, kind=kind, code=code)
    for reason in ("flood", "x" * 100_000, "<b>\n\x1b[31m", "\u202e", "'; --"):
        yield f"excluded for {reason[:8]!r}", partial(_reversible, reason=reason)
    yield "all are excluded", _all_excluded
    yield "networks and a rater are forgotten", _forgotten


def _faults(rng: Random) -> Iterator[Fault]:
    for title, provoke in _named():
        yield Fault(title, provoke)
    while True:
        n, seed = rng.randint(1, 40), rng.randrange(1 << 30)
        yield Fault(f"{n} careless raters {seed}", partial(_lazy, n_raters=n, seed=seed))


KIND = Kind(
    "votes",
    "D servers",
    "no one votes for others, twice, or more than a few raters of one network",
    _faults,
    count=75,
    sample=2,
    limit_s=60,
)
