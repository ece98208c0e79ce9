"""Strengths of methods from votes on pairs: the Bradley-Terry model with ties of Davidson (1970).

The outcome of a vote on methods i and j is "i", "j" or "tie", with chances in the ratio
    exp(s_i) : exp(s_j) : exp(h + (s_i + s_j) / 2)
(Davidson, On extending the Bradley-Terry model to accommodate ties in paired comparison
experiments, JASA 65, 1970; with pi = exp(s) and nu = exp(h)). Ours: a normal prior of
standard deviation 10 on every s and on h, so that a method that won every vote gets a large number
and no infinite one; where votes go both ways it moves strengths by far less than their intervals.

Intervals draw raters and prompts independently and weight each vote with the product of both
counts (the pigeonhole bootstrap: Owen, Annals of Applied Statistics 1(2), 2007), because votes of
one rater are correlated and so are votes on one prompt. Its intervals are conservative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from metrics.stats.intervals import MIN_CLUSTERS, Estimate
from metrics.stats.margin import prompts_to_decide

N_DRAWS = 1000
PRIOR_PRECISION = 0.01
_CHUNK = 100  # draws whose weights are held at once
_MAX_STEP = 2.0  # of a Newton step, in log strength
_MAX_STEPS = 200
_TOLERANCE = 1e-9  # of the largest gradient, a vote
_LEVEL, _POWER = 0.025, 0.8  # of a 95 % interval that lies on one side of one half
_Z_END = 1.96  # standard errors from an estimate to the end of its interval
_LEAST_EFFECT = 1e-3


@dataclass(frozen=True)
class Comparisons:
    """Votes on pairs of methods, one entry each; `outcome` is 1 first, 0.5 tie, 0 second.

    Weights count in the model and its intervals; wins, ties and losses are numbers of votes.
    """

    first: Sequence[str]
    second: Sequence[str]
    outcome: Sequence[float]
    raters: Sequence[str]
    prompts: Sequence[str]
    weights: Sequence[float] | None = None  # of the votes, above 0; None: each counts once

    def __len__(self) -> int:
        return len(self.outcome)

    @cached_property
    def names(self) -> list[str]:
        """Return every method that was compared, by name."""
        return sorted({*self.first, *self.second})


@dataclass(frozen=True)
class Standing:
    """A method's place among those it was compared with; ranks count from 1 (best)."""

    name: str
    strength: Estimate  # log odds; the mean over all methods is 0
    score: Estimate  # chance to win against another method drawn evenly, a tie counts half
    rank: int
    rank_low: int | None
    rank_high: int | None
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Ranking:
    """All standings, best first; `draws` [R, K] are the bootstrap's strengths in order of names."""

    standings: list[Standing]
    tie_odds: float  # Davidson's nu: odds of a tie between equals against one of both winning
    n_raters: int
    n_prompts: int
    reason: str | None  # why intervals are missing


def rank_methods(
    votes: Comparisons, *, n_draws: int = N_DRAWS, confidence: float = 0.95, seed: int = 0
) -> Ranking:
    """Fit the model and return the standing of each method; without votes there is none."""
    raters, prompts = sorted(set(votes.raters)), sorted(set(votes.prompts))
    reason = _too_few(len(raters), len(prompts))
    if not len(votes):
        return Ranking([], 1.0, 0, 0, reason)
    table = _CellTable(votes)
    point = table.counts(np.ones((1, len(votes))))  # [1, P, 3]
    strengths, log_ties = fit_davidson(point, len(votes.names))
    draws = None
    if reason is None:
        counts = table.pigeonhole_counts(votes, n_draws=n_draws, seed=seed)
        draws = fit_davidson(counts, len(votes.names))
        unseen = _appearances(counts, len(votes.names)) == 0
        draws[0][unseen] = np.nan
    standings = _standings(
        votes,
        strengths=strengths[0],
        log_ties=log_ties[0],
        draws=draws,
        reason=reason,
        confidence=confidence,
    )
    return Ranking(standings, float(np.exp(log_ties[0])), len(raters), len(prompts), reason)


def more_votes(ranking: Ranking) -> dict[str, int]:
    """Return by method about how many more votes, over all pairs, tell it from an even chance.

    0 where the interval of its score lies on one side of one half. Else the votes at which a test
    of the score against one half has a power of .8, under the current score: the standard error
    falls with the square root of the votes, as long as raters and prompts grow with them. Without
    intervals, the votes of the raters, or on the prompts, that are missing for any.
    """
    n_votes = sum(s.wins + s.ties + s.losses for s in ranking.standings) // 2
    if ranking.reason is not None:
        own = math.ceil(n_votes / max(ranking.n_raters, 1))  # of a typical rater
        missing = MIN_CLUSTERS - ranking.n_raters, MIN_CLUSTERS - ranking.n_prompts
        least = max(missing[0] * own, missing[1], 1)
        return {standing.name: least for standing in ranking.standings}
    # a vote is about two of the methods: of n votes on a method, all pairs need n K / 2
    share = len(ranking.standings) / 2
    return {s.name: math.ceil(_more_of(s.score) * share) for s in ranking.standings}


def _more_of(score: Estimate) -> int:
    """Return how many more votes on one method tell its score from one half."""
    value, low, high = score.value, score.low, score.high
    if value is None or low is None or high is None:
        return 1
    if low > 0.5 or high < 0.5:
        return 0
    reach = value - low if value >= 0.5 else high - value
    spread = reach / _Z_END * math.sqrt(score.n)
    effect = max(abs(value - 0.5), _LEAST_EFFECT)
    needed = prompts_to_decide(spread, effect=effect, alpha=_LEVEL, power=_POWER)
    return max(needed - score.n, 1)


def fit_davidson(
    counts: np.ndarray, n_methods: int, *, prior_precision: float = PRIOR_PRECISION
) -> tuple[np.ndarray, np.ndarray]:
    """Return strengths [R, K], mean 0, and log tie odds [R] of R tables of counts [R, P, 3].

    P runs over `itertools.combinations(range(K), 2)`, 3 over (i, j, tie). Newton's method on the
    concave log likelihood with limited steps; prior precision 0 gives the maximum likelihood,
    which is infinite where a method won every vote.
    """
    features = _features(n_methods)  # [P, 3, K + 1]
    n_params = n_methods + 1
    prior = prior_precision * np.eye(n_params)
    center = np.zeros((n_params, n_params))
    center[:n_methods, :n_methods] = 1.0  # holds the free level of the strengths at mean 0
    params = np.zeros((len(counts), n_params))
    totals = counts.sum(-1)  # [R, P]
    scale = np.maximum(totals.sum(-1), 1.0)
    for _ in range(_MAX_STEPS):
        # gradient of the penalized log likelihood: observed minus expected features
        chances = _chances(params, features)  # [R, P, 3]
        mean = np.einsum("rpc,pcd->rpd", chances, features)
        left = counts - totals[..., None] * chances
        gradient = np.einsum("rpc,pcd->rd", left, features) - params @ (prior + center)
        if (np.abs(gradient).max(-1) <= _TOLERANCE * scale).all():
            break
        # information: covariance of the features under the model, summed over votes
        second = np.einsum("rp,rpc,pcd,pce->rde", totals, chances, features, features)
        second -= np.einsum("rp,rpd,rpe->rde", totals, mean, mean)
        # Newton step, shortened where it is so long that the quadratic form is a bad guide
        step = np.linalg.solve(second + prior + center, gradient[..., None])[..., 0]
        longest = np.abs(step).max(-1, keepdims=True)
        params += step * np.minimum(1.0, _MAX_STEP / np.maximum(longest, 1e-300))
    else:
        raise ArithmeticError(
            "the strengths did not settle: a method won every vote and the prior is 0"
        )
    return params[:, :n_methods], params[:, n_methods]


def expected_scores(strengths: np.ndarray, log_ties: np.ndarray) -> np.ndarray:
    """Return the chance [R, K] to win against another method drawn evenly; a tie counts half."""
    n_methods = strengths.shape[1]
    params = np.concatenate([strengths, log_ties[:, None]], axis=1)
    chances = _chances(params, _features(n_methods))
    scores = np.zeros_like(strengths)
    # P(win) + P(tie) / 2, averaged over all opponents
    for cell, (i, j) in enumerate(combinations(range(n_methods), 2)):
        scores[:, i] += chances[:, cell, 0] + chances[:, cell, 2] / 2
        scores[:, j] += chances[:, cell, 1] + chances[:, cell, 2] / 2
    return scores / max(n_methods - 1, 1)


def _chances(params: np.ndarray, features: np.ndarray) -> np.ndarray:
    # softmax; the maximum is subtracted against overflow
    logits = np.einsum("rd,pcd->rpc", params, features)
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _features(n_methods: int) -> np.ndarray:
    pairs = list(combinations(range(n_methods), 2))
    features = np.zeros((len(pairs), 3, n_methods + 1))
    # log chance of "i", "j" and "tie" up to a constant: s_i; s_j; h + (s_i + s_j) / 2
    for cell, (i, j) in enumerate(pairs):
        features[cell, 0, i] = features[cell, 1, j] = 1.0
        features[cell, 2, [i, j, n_methods]] = 0.5, 0.5, 1.0
    return features


class _CellTable:
    """Votes counted by pair of methods and outcome."""

    def __init__(self, votes: Comparisons) -> None:
        place = {name: i for i, name in enumerate(votes.names)}
        pairs = {pair: p for p, pair in enumerate(combinations(range(len(place)), 2))}
        self._n_cells = 3 * len(pairs)
        cells = []
        for first, second, outcome in zip(votes.first, votes.second, votes.outcome, strict=True):
            i, j = place[first], place[second]
            # column of the cell: 0 the lower index wins, 1 the higher one, 2 a tie
            won = 2 if outcome == 0.5 else int((outcome == 1) == (i > j))
            cells.append(3 * pairs[min(i, j), max(i, j)] + won)
        self._one_hot = np.zeros((len(cells), self._n_cells))
        self._one_hot[np.arange(len(cells)), cells] = (
            1.0 if votes.weights is None else votes.weights
        )

    def counts(self, weights: np.ndarray) -> np.ndarray:
        """Return counts [R, P, 3] of votes drawn [R, N] times, each with its weight."""
        return (weights @ self._one_hot).reshape(len(weights), -1, 3)

    def pigeonhole_counts(self, votes: Comparisons, *, n_draws: int, seed: int) -> np.ndarray:
        """Return counts [R, P, 3] of resamples of raters and, independently, of prompts."""
        rng = np.random.default_rng(seed)
        _, rater = np.unique(np.asarray(votes.raters, str), return_inverse=True)
        _, prompt = np.unique(np.asarray(votes.prompts, str), return_inverse=True)
        parts = []
        # weight of a vote: how often its rater was drawn times how often its prompt was
        for start in range(0, n_draws, _CHUNK):
            n = min(_CHUNK, n_draws - start)
            weights = _multinomial(rng, n, rater.max() + 1)[:, rater]
            parts.append(self.counts(weights * _multinomial(rng, n, prompt.max() + 1)[:, prompt]))
        return np.concatenate(parts)


def _multinomial(rng: np.random.Generator, n_draws: int, n: int) -> np.ndarray:
    return rng.multinomial(n, np.full(n, 1 / n), size=n_draws).astype(float)


def _appearances(counts: np.ndarray, n_methods: int) -> np.ndarray:
    totals = counts.sum(-1)
    seen = np.zeros((len(counts), n_methods))
    for cell, pair in enumerate(combinations(range(n_methods), 2)):
        seen[:, pair] += totals[:, cell, None]
    return seen


def _standings(
    votes: Comparisons,
    *,
    strengths: np.ndarray,
    log_ties: float,
    draws: tuple[np.ndarray, np.ndarray] | None,
    reason: str | None,
    confidence: float,
) -> list[Standing]:
    scores = expected_scores(strengths[None], np.array([log_ties]))[0]
    # argsort of argsort: rank 1 is the largest strength
    ranks = (-strengths).argsort(kind="stable").argsort(kind="stable") + 1
    strength_bounds = score_bounds = rank_bounds = [(None, None)] * len(strengths)
    if draws is not None:
        drawn, ties = draws
        strength_bounds = _bounds(drawn, confidence)
        score_bounds = _bounds(expected_scores(np.nan_to_num(drawn), ties), confidence)
        drawn_ranks = (-np.nan_to_num(drawn)).argsort(1).argsort(1) + 1.0
        rank_bounds = _bounds(drawn_ranks, confidence)
    n_clusters = min(len(set(votes.raters)), len(set(votes.prompts)))
    found = []
    for k, name in enumerate(votes.names):
        won, tied, lost = _record(votes, name)
        n = won + tied + lost
        rank_low, rank_high = rank_bounds[k]
        found.append(
            Standing(
                name,
                Estimate(float(strengths[k]), *strength_bounds[k], n, n_clusters, reason),
                Estimate(float(scores[k]), *score_bounds[k], n, n_clusters, reason),
                int(ranks[k]),
                None if rank_low is None else round(rank_low),
                None if rank_high is None else round(rank_high),
                won,
                tied,
                lost,
            )
        )
    return sorted(found, key=lambda standing: standing.rank)


def _bounds(draws: np.ndarray, confidence: float) -> list[tuple[float, float]]:
    """Return percentile intervals of the columns; draws without the method are left out."""
    levels = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.nanquantile(draws, levels, axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _record(votes: Comparisons, name: str) -> tuple[int, int, int]:
    won = tied = lost = 0
    for first, second, outcome in zip(votes.first, votes.second, votes.outcome, strict=True):
        if name not in (first, second):
            continue
        own = outcome if name == first else 1 - outcome
        won, tied, lost = won + (own == 1), tied + (own == 0.5), lost + (own == 0)
    return won, tied, lost


def _too_few(n_raters: int, n_prompts: int) -> str | None:
    for n, what in ((n_raters, "raters"), (n_prompts, "prompts")):
        if n < MIN_CLUSTERS:
            return f"{n} {what} are too few for an interval (at least {MIN_CLUSTERS})"
    return None
