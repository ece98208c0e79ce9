"""What a rater is asked next, and in which order; pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from leaderboard.study.schema import QUESTIONS, Answer, Position, Question
from leaderboard.study.tokens import Blinding

Side = Literal["left", "right"]
Choice = Literal["left", "right", "tie", "skip"]


@dataclass(frozen=True)
class PairTask:
    """One question about one pair, as one rater sees it."""

    pair: Any  # row of `VoteBook.pairs`
    question: Question
    shown_left: Position

    @property
    def left_key(self) -> str:
        """Key of the picture on the left."""
        return self.pair.first_key if self.shown_left == "first" else self.pair.second_key

    @property
    def right_key(self) -> str:
        """Key of the picture on the right."""
        return self.pair.second_key if self.shown_left == "first" else self.pair.first_key

    def answer(self, choice: Choice) -> Answer:
        """What a choice between the sides says of the pair."""
        if choice in ("tie", "skip"):
            return choice
        other: Position = "second" if self.shown_left == "first" else "first"
        return self.shown_left if choice == "left" else other


@dataclass(frozen=True)
class PictureTask:
    """One question about one picture, to be rated."""

    picture: Any  # row of `VoteBook.pictures`
    question: Question


def next_pair(
    pairs: Sequence[Any],
    done: Collection[tuple[str, str]],
    *,
    rater_id: str,
    blinding: Blinding,
    n_shared: int,
) -> PairTask | None:
    """The first question a rater has not answered; None when all are.

    The first `n_shared` pairs of the study come first for everyone, so that raters can be compared;
    within them, and in the rest, each rater has an order of their own. Both questions about a pair
    follow each other.
    """
    left = [pair for pair in pairs if _open_questions(pair.pair_id, done)]
    if not left:
        return None
    pair = min(left, key=lambda p: (p.position >= n_shared, blinding.rank_of(rater_id, p.pair_id)))
    question = _open_questions(pair.pair_id, done)[0]
    return PairTask(pair, question, blinding.left_of(rater_id, pair.pair_id))


def next_picture(
    pictures: Sequence[Any], done: Collection[tuple[str, str]], *, rater_id: str, blinding: Blinding
) -> PictureTask | None:
    """The first picture a rater has not rated, in an order of the rater's own."""
    left = [p for p in pictures if _open_questions(p.picture_key, done)]
    if not left:
        return None
    picture = min(left, key=lambda p: blinding.rank_of(rater_id, p.picture_key))
    return PictureTask(picture, _open_questions(picture.picture_key, done)[0])


def example_pictures(pictures: Sequence[Any], of: Any, *, n: int = 3) -> list[Any]:
    """Up to `n` images of the base model with the same plugin and another prompt: its style."""
    found = [
        p
        for p in pictures
        if p.method == "base" and p.plugin == of.plugin and p.prompt != of.prompt
    ]
    return sorted(found, key=lambda p: (p.case_id, p.seed))[:n]


def _open_questions(key: str, done: Collection[tuple[str, str]]) -> list[Question]:
    return [question for question in QUESTIONS if (key, question) not in done]
