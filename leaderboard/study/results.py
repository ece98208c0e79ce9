"""Results of a study: rankings, agreement, and ratings compared with the paper's.

Each comes twice: raw (every answer as it was given) and robust (without what the operator excluded,
with the weights of `metrics.stats.vote_weights`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

import numpy as np

from bench.analysis.words import more_votes as more_votes_text
from bench.store import Row, grouped
from leaderboard.study.design import Arm
from leaderboard.study.schema import SCALE, Question
from metrics.stats import Comparisons, Estimate, Ranking, rank_methods
from metrics.stats.agreement import agreement
from metrics.stats.preference import more_votes
from metrics.stats.vote_weights import MAX_NETWORK, Ballots, weigh_votes

# arXiv 2312.02238v3, Tables 1 and 2: 5 users, ratings 1 to 5, mean and spread; SD 1.5 to SDXL
PAPER_FAMILY = "sd15-sdxl"
PAPER_RATINGS: dict[tuple[str, str], dict[Question, tuple[float, float]]] = {
    ("controlnet", "base"): {"quality": (3.23, 0.12), "fidelity": (4.21, 0.32)},
    ("controlnet", "sdedit"): {"quality": (4.14, 0.57), "fidelity": (2.46, 0.17)},
    ("controlnet", "xadapter"): {"quality": (4.46, 0.43), "fidelity": (3.92, 0.26)},
    ("lora", "base"): {"quality": (2.93, 0.09)},
    ("lora", "sdedit"): {"quality": (3.92, 0.53), "fidelity": (3.45, 0.33)},
    ("lora", "xadapter"): {"quality": (4.38, 0.25), "fidelity": (4.14, 0.29)},
}
_OUTCOMES = {"first": 1.0, "tie": 0.5, "second": 0.0}
DECIDED = ["first", "tie", "second"]
_ARM = ("method", "t0", "plugin_scale", "adapter_scale")


@dataclass(frozen=True)
class QuestionResult:
    """Result of one question; skips count only in `n_skipped`."""

    ranking: Ranking
    agreement: Estimate
    n_votes: int
    n_skipped: int
    left_share: float | None  # of the votes with a winner; far from .5 means position bias
    median_seconds: float | None


@dataclass(frozen=True)
class Robust:
    """The votes of one question that count, with their weights, and what was done to the others."""

    votes: list[Row]
    weights: list[float]
    n_excluded: int  # raters, by the operator
    n_left_out: int  # raters, by their answers on gold pairs
    n_capped: int  # networks
    gold: Mapping[str, tuple[int, int]]  # rater -> gold pairs chosen right, answered

    @property
    def is_raw(self) -> bool:
        """True if every vote counts once: the robust result is the raw one."""
        return not (self.n_excluded or self.n_left_out) and set(self.weights) <= {1.0}


def robust_votes(votes: Sequence[Row], question: Question) -> Robust:
    """Weigh the votes on one question, rows of `export.VOTE_COLUMNS`; skips are left out."""
    answered = [v for v in votes if v["question"] == question and v["answer"] != "skip"]
    allowed = [vote for vote in answered if vote["excluded"] is None]
    found = weigh_votes(
        Ballots(
            items=[_pair(vote) for vote in allowed],
            winners=[v["answer"] if v["answer"] != "tie" else None for v in allowed],
            raters=[vote["rater"] for vote in allowed],
            networks=[_network(vote) for vote in allowed],
        )
    )
    kept = [(v, w) for v, w in zip(allowed, found.weights, strict=True) if w > 0]
    excluded = {vote["rater"] for vote in answered} - {vote["rater"] for vote in allowed}
    return Robust(
        votes=[vote for vote, _ in kept],
        weights=[weight for _, weight in kept],
        n_excluded=len(excluded),
        n_left_out=len(found.left_out),
        n_capped=len(found.capped),
        gold=found.gold,
    )


def robust_ratings(ratings: Sequence[Row]) -> tuple[list[Row], dict[str, float]]:
    """Return the ratings that are not excluded, and the weight of each rater's mean.

    Raters of one network count for at most `MAX_NETWORK` raters together; skips are left out.
    """
    given = [rating for rating in ratings if rating["rating"] is not None]
    allowed = [rating for rating in given if rating["excluded"] is None]
    network_of = {rating["rater"]: _network(rating) for rating in allowed}
    sizes = Counter(network_of.values())
    shares = {rater: min(1.0, MAX_NETWORK / sizes[w]) for rater, w in network_of.items()}
    largest = max(shares.values(), default=1.0)
    return allowed, {rater: share / largest for rater, share in shares.items()}


def question_result(
    votes: Sequence[Row], question: Question, weights: Sequence[float] | None = None
) -> QuestionResult:
    """Compute the result of one question from rows of `export.VOTE_COLUMNS`.

    `weights` belong to votes that are all answers to this question, without skips.
    """
    rows = [row for row in votes if row["question"] == question]
    answered = [row for row in rows if row["answer"] != "skip"]
    decided = [row for row in answered if row["answer"] != "tie"]
    on_left = sum(row["answer"] == row["shown_left"] for row in decided)
    return QuestionResult(
        ranking=rank_methods(comparisons(answered, weights)),
        agreement=agreement(
            [_pair(row) for row in answered],
            [row["answer"] for row in answered],
            [row["prompt"] for row in answered],
            domain=DECIDED,
            level="nominal",
        ),
        n_votes=len(answered),
        n_skipped=len(rows) - len(answered),
        left_share=on_left / len(decided) if decided else None,
        median_seconds=median(row["seconds"] for row in answered) if answered else None,
    )


def comparisons(answered: Sequence[Row], weights: Sequence[float] | None = None) -> Comparisons:
    """Convert votes without skips into comparisons for the Bradley-Terry model."""
    return Comparisons(
        first=[_arm(row, "first_") for row in answered],
        second=[_arm(row, "second_") for row in answered],
        outcome=[_OUTCOMES[row["answer"]] for row in answered],
        raters=[row["rater"] for row in answered],
        prompts=[row["prompt"] for row in answered],
        weights=weights,
    )


def ranking_rows(ranking: Ranking) -> list[Row]:
    """Return one row per method, best first; 95 % intervals, null with fewer than five raters.

    `more_votes` is about how many more votes tell the method from an even chance; 0: it is told.
    """
    more = more_votes(ranking)
    return [
        {
            "rank": s.rank,
            "more_votes": more[s.name],
            "rank_low": s.rank_low,
            "rank_high": s.rank_high,
            "method": s.name,
            **_spread("score", s.score),
            **_spread("strength", s.strength),
            "wins": s.wins,
            "ties": s.ties,
            "losses": s.losses,
        }
        for s in ranking.standings
    ]


def ranking_sentence(rows: Sequence[Row]) -> str:
    """Return which methods win more or less often than not, and what the others need."""
    told = [row for row in rows if not row["more_votes"]]
    groups = [
        ("wins more often than not", [row["method"] for row in told if row["score"] > 0.5]),
        ("wins less often than not", [row["method"] for row in told if row["score"] < 0.5]),
    ]
    parts = [f"{', '.join(names)} {words}" for words, names in groups if names]
    waiting = [row["more_votes"] for row in rows if row["more_votes"]]
    if waiting:
        which = "no method is" if not told else "the other is" if len(waiting) == 1 else ""
        which = which or f"the other {len(waiting)} are"
        state = "told from an even chance yet" if not told else "open"
        parts.append(f"{which} {state}: {more_votes_text(max(waiting))}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if not told else f"{text}."


def rating_rows(
    ratings: Sequence[Row], *, family: str, weights: Mapping[str, float] | None = None
) -> list[Row]:
    """Return mean and sd of ratings per plugin kind, method and question, with the paper's.

    Mean and sd are over raters' means, one value per rater. The paper does not define its spread:
    integers from 1 to 5 with mean 3.23 have a standard deviation of at least .42, so its .12 can
    only be over such means. `weights` of raters count in mean and sd.
    """
    given = [{**row, "arm": _arm(row)} for row in ratings if row["rating"] is not None]
    return [
        {"kind": kind, "method": arm, "question": question, **_rated(part, family, weights)}
        for (kind, arm, question), part in sorted(grouped(given, "kind", "arm", "question").items())
    ]


def rating_agreement(ratings: Sequence[Row], question: Question) -> Estimate:
    """Compute Krippendorff's alpha of the ratings, for ordinal values."""
    given = [r for r in ratings if r["question"] == question and r["rating"] is not None]
    return agreement(
        [f"{row['plugin']} {row['trial_id']}" for row in given],
        [int(row["rating"]) for row in given],
        [row["prompt"] for row in given],
        domain=list(SCALE),
        level="ordinal",
    )


def _rated(part: Sequence[Row], family: str, weights: Mapping[str, float] | None) -> Row:
    own = grouped(part, "rater")
    means = np.array([mean(row["rating"] for row in rows) for rows in own.values()])
    shares = np.array([1.0 if weights is None else weights[rater] for (rater,) in own])
    center = float(np.average(means, weights=shares))
    # standard deviation with n - 1 for equal weights: n is the effective number of raters
    n = shares.sum() ** 2 / (shares**2).sum()
    variance = np.average((means - center) ** 2, weights=shares)
    known = PAPER_RATINGS.get((part[0]["kind"], part[0]["method"]), {})
    paper = known.get(part[0]["question"]) if family == PAPER_FAMILY else None
    return {
        "mean": center,
        "sd": float(np.sqrt(variance * n / (n - 1))) if len(means) > 1 and n > 1 else None,
        "raters": len(means),
        "ratings": len(part),
        "paper_mean": paper[0] if paper else None,
        "paper_sd": paper[1] if paper else None,
    }


def _spread(name: str, estimate: Estimate) -> Row:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _pair(row: Row) -> str:
    return f"{row['plugin']} {row['first_trial_id']} {row['second_trial_id']}"


def _network(row: Row) -> str:
    """Return the network's code; a rater of unknown network is one of their own."""
    return row["network"] or f"rater {row['rater']}"


def _arm(row: Row, side: str = "") -> str:
    return Arm.of({name: row[side + name] for name in _ARM}).label
