"""Raters with known preferences, who vote through the real vote layer."""

import numpy as np

from leaderboard.study.design import Study
from leaderboard.study.limits import RateLimit
from leaderboard.study.votes import Rating, Vote, VotesDatabase
from tests.leaderboard.studies import BLINDING

TASTE = {"floor": -1.2, "base": -0.4, "sdedit": 0.2, "xadapter": 1.4}
NO_LIMIT = RateLimit(per_rater=10**6, per_address=10**6, new_raters=10**6)


def rater(number: int) -> str:
    return f"{number:032x}"


def vote_all(database: VotesDatabase, study: Study, *, n_raters: int, seed: int = 0) -> None:
    """Answer the first question on every pair and rate every picture, as each rater."""
    rng = np.random.default_rng(seed)
    method_of = {p.picture_key: p.method for p in database.pictures(study.study_id)}
    for number in range(n_raters):
        for pair in database.pairs(study.study_id):
            gap = TASTE[method_of[pair.first_key]] - TASTE[method_of[pair.second_key]]
            weights = np.exp([gap / 2, -gap / 2, -0.5])
            answer = rng.choice(["first", "second", "tie"], p=weights / weights.sum())
            left = BLINDING.left_of(rater(number), pair.pair_id)
            database.cast(Vote(rater(number), pair.pair_id, "quality", str(answer), left, 2.0))
        for key, method in method_of.items():
            stars = int(np.clip(round(3 + TASTE[method] + rng.normal(0, 0.4)), 1, 5))
            database.rate(Rating(rater(number), key, "quality", stars, 1.0))
