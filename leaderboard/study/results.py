"""What the votes of a study say: rankings, agreement, and ratings beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev

from bench.store.rows import Row, grouped
from leaderboard.study.design import Arm
from leaderboard.study.schema import SCALE, Question
from metrics.stats.agreement import agreement
from metrics.stats.intervals import Estimate
from metrics.stats.preference import Comparisons, Ranking, rank_methods

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
    """One question's answers; skips count nowhere but in `n_skipped`."""

    ranking: Ranking
    agreement: Estimate
    n_votes: int
    n_skipped: int
    left_share: float | None  # of the votes with a winner; far from .5: sides matter
    median_seconds: float | None


def question_result(votes: Sequence[Row], question: Question) -> QuestionResult:
    """The result of one question over rows of `votes_export.VOTE_COLUMNS`."""
    asked = [row for row in votes if row["question"] == question]
    said = [row for row in asked if row["answer"] != "skip"]
    won = [row for row in said if row["answer"] != "tie"]
    on_left = sum(row["answer"] == row["shown_left"] for row in won)
    return QuestionResult(
        ranking=rank_methods(comparisons(said)),
        agreement=agreement(
            [f"{r['plugin']} {r['first_trial_id']} {r['second_trial_id']}" for r in said],
            [row["answer"] for row in said],
            [row["prompt"] for row in said],
            domain=DECIDED,
            level="nominal",
        ),
        n_votes=len(said),
        n_skipped=len(asked) - len(said),
        left_share=on_left / len(won) if won else None,
        median_seconds=median(row["seconds"] for row in said) if said else None,
    )


def comparisons(said: Sequence[Row]) -> Comparisons:
    """Votes without skips as the Bradley-Terry model reads them."""
    return Comparisons(
        first=[_arm(row, "first_") for row in said],
        second=[_arm(row, "second_") for row in said],
        outcome=[_OUTCOMES[row["answer"]] for row in said],
        raters=[row["rater"] for row in said],
        prompts=[row["prompt"] for row in said],
    )


def ranking_rows(ranking: Ranking) -> list[Row]:
    """One row a method, best first; intervals are 95 % and null with fewer than five raters."""
    return [
        {
            "rank": s.rank,
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


def rating_rows(ratings: Sequence[Row], *, family: str) -> list[Row]:
    """Mean and spread of ratings per plugin kind, method and question, the paper's beside.

    Mean and sd are over the raters' own means, one value a rater. The paper does not say what its
    spread is of; whole numbers from 1 to 5 with mean 3.23 have a standard deviation of .42 or more,
    so its .12 can only be of such means.
    """
    given = [{**row, "arm": _arm(row)} for row in ratings if row["rating"] is not None]
    return [
        {"kind": kind, "method": arm, "question": question, **_rated(part, family)}
        for (kind, arm, question), part in sorted(grouped(given, "kind", "arm", "question").items())
    ]


def rating_agreement(ratings: Sequence[Row], question: Question) -> Estimate:
    """Krippendorff's alpha of the ratings, for ordered values."""
    given = [r for r in ratings if r["question"] == question and r["rating"] is not None]
    return agreement(
        [f"{row['plugin']} {row['trial_id']}" for row in given],
        [int(row["rating"]) for row in given],
        [row["prompt"] for row in given],
        domain=list(SCALE),
        level="ordinal",
    )


def _rated(part: Sequence[Row], family: str) -> Row:
    means = [mean(r["rating"] for r in own) for own in grouped(part, "rater").values()]
    known = PAPER_RATINGS.get((part[0]["kind"], part[0]["method"]), {})
    paper = known.get(part[0]["question"]) if family == PAPER_FAMILY else None
    return {
        "mean": mean(means),
        "sd": stdev(means) if len(means) > 1 else None,
        "raters": len(means),
        "ratings": len(part),
        "paper_mean": paper[0] if paper else None,
        "paper_sd": paper[1] if paper else None,
    }


def _spread(name: str, estimate: Estimate) -> Row:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _arm(row: Row, side: str = "") -> str:
    return Arm.of({name: row[side + name] for name in _ARM}).label
