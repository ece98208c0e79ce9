"""Order of a rater's questions; pure functions."""

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
    """One question about one pair, with the sides for one rater."""

    pair: Any  # row of `VotesDatabase.pairs`
    question: Question
    shown_left: Position

    @property
    def left_key(self) -> str:
        """Key of the left picture."""
        return self.pair.first_key if self.shown_left == "first" else self.pair.second_key

    @property
    def right_key(self) -> str:
        """Key of the right picture."""
        return self.pair.second_key if self.shown_left == "first" else self.pair.first_key

    def answer(self, choice: Choice) -> Answer:
        """Convert a choice of side into an answer about the pair."""
        if choice in ("tie", "skip"):
            return choice
        other: Position = "second" if self.shown_left == "first" else "first"
        return self.shown_left if choice == "left" else other


@dataclass(frozen=True)
class PictureTask:
    """One question about one picture to rate."""

    picture: Any  # row of `VotesDatabase.pictures`
    question: Question


def next_pair(
    pairs: Sequence[Any],
    done: Collection[tuple[str, str]],
    *,
    rater_id: str,
    blinding: Blinding,
    n_shared: int,
    revealed: Collection[str] = (),
) -> PairTask | None:
    """Return a rater's next open question; None if all are answered.

    All raters start with the first `n_shared` pairs of the study, so that their agreement can be
    measured; these and the remaining pairs are shuffled per rater. The two questions about a pair
    are consecutive. Pairs with one of the `revealed` pictures are left out.
    """
    remaining = open_pairs(pairs, done, revealed=revealed)
    if not remaining:
        return None
    pair = min(
        remaining, key=lambda p: (p.position >= n_shared, blinding.rank_of(rater_id, p.pair_id))
    )
    question = _open_questions(pair.pair_id, done)[0]
    return PairTask(pair, question, blinding.left_of(rater_id, pair.pair_id))


def next_picture(
    pictures: Sequence[Any],
    done: Collection[tuple[str, str]],
    *,
    rater_id: str,
    blinding: Blinding,
    revealed: Collection[str] = (),
) -> PictureTask | None:
    """Return the next picture to rate, in an order shuffled per rater; None if all are rated."""
    remaining = open_pictures(pictures, done, revealed=revealed)
    if not remaining:
        return None
    picture = min(remaining, key=lambda p: blinding.rank_of(rater_id, p.picture_key))
    return PictureTask(picture, _open_questions(picture.picture_key, done)[0])


def example_pictures(pictures: Sequence[Any], of: Any, *, n: int = 3) -> list[Any]:
    """Return up to `n` base-model images of the plugin with other prompts, as examples of style."""
    found = [
        p
        for p in pictures
        if p.method == "base" and p.plugin == of.plugin and p.prompt != of.prompt
    ]
    return sorted(found, key=lambda p: (p.case_id, p.seed))[:n]


def open_pairs(
    pairs: Sequence[Any], done: Collection[tuple[str, str]], *, revealed: Collection[str] = ()
) -> list[Any]:
    """Return the pairs with an open question, without those of a revealed picture."""
    return [
        pair
        for pair in pairs
        if _open_questions(pair.pair_id, done)
        and pair.first_key not in revealed
        and pair.second_key not in revealed
    ]


def open_pictures(
    pictures: Sequence[Any], done: Collection[tuple[str, str]], *, revealed: Collection[str] = ()
) -> list[Any]:
    """Return the pictures with an open question, without revealed ones."""
    return [
        p
        for p in pictures
        if _open_questions(p.picture_key, done) and p.picture_key not in revealed
    ]


def n_open(keys: Sequence[str], done: Collection[tuple[str, str]]) -> int:
    """Count the open questions about pairs or pictures."""
    return sum(len(_open_questions(key, done)) for key in keys)


def _open_questions(key: str, done: Collection[tuple[str, str]]) -> list[Question]:
    return [question for question in QUESTIONS if (key, question) not in done]
