"""Study: blinded pairs to compare, single pictures to rate, and the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from bench.errors import UserError
from leaderboard.escape import literal, one_line
from leaderboard.study import Study, Vote, study_of, voting
from leaderboard.study.config import COOKIE, Voting
from leaderboard.study.pictures import N_EXAMPLES
from leaderboard.study.runs import StudySource, study_sources
from leaderboard.study.schema import QUESTIONS, SCALE, Question
from leaderboard.study.tasks import (
    Choice,
    PairTask,
    PictureTask,
    example_pictures,
    next_pair,
    next_picture,
)
from leaderboard.study.votes import Rating
from leaderboard.ui import Page, site_address
from leaderboard.views.study_results import show_results

Part = Literal["Compare", "Rate", "Results"]
_PARTS: tuple[Part, ...] = ("Compare", "Rate", "Results")
# choice, label, key
_CHOICES: tuple[tuple[Choice, str, str], ...] = (
    ("left", "Left", "Left"),
    ("tie", "No difference", "0"),
    ("skip", "Skip", "S"),
    ("right", "Right", "Right"),
)
_WORDS = dict(zip(SCALE, ("very poor", "poor", "fair", "good", "very good"), strict=True))
_STARS: tuple[tuple[int | None, str, str], ...] = (
    *((stars, word, str(stars)) for stars, word in _WORDS.items()),
    (None, "Skip", "S"),
)
_SMALL_PX = 140
_PRIVACY = (
    "Stored about you: a random number from a cookie of this site, your answers, when you gave "
    "them and how long you took, and a code of your network (a keyed hash of the first part of "
    "the address, for this study only). No name and no address. To have your answers deleted, "
    "give this number to the operator of this site: {rater}"
)


@dataclass(frozen=True)
class Seat:
    """One rater in one study."""

    home: Voting
    study: Study
    rater_id: str


def show() -> None:
    """Draw the page."""
    st.title("Study", anchor=False)
    st.caption("Which picture is better? The methods that made them are hidden.")
    sources = study_sources()
    if not sources:
        st.info("There are no results to study yet.")
        return
    left, right = st.columns(2, vertical_alignment="bottom")
    run = left.selectbox("Run", list(sources), key="run", bind="query-params", format_func=one_line)
    part = right.segmented_control(
        "Part",
        _PARTS,
        default="Compare",
        key="part",
        required=True,
        bind="query-params",
    )
    try:
        seat = _take_seat(sources[run])
        {"Compare": _compare, "Rate": _rate, "Results": _results}[part or "Compare"](seat)
    except UserError as error:
        st.info(literal(error))


def _take_seat(source: StudySource) -> Seat:
    """Open the study of a run, stored on first use, for the rater of this browser."""
    home, study = voting(), study_of(source)
    home.database.add_study(study, home.blinding)
    rater_id = home.blinding.rater_of(st.context.cookies.get(COOKIE))
    if rater_id is None:  # without cookies each tab is a new rater
        token = st.session_state.setdefault("rater_token", home.blinding.new_token())
        rater_id = home.blinding.rater_of(token)
    if rater_id is None:
        raise UserError("this browser's rater is unknown: reload the page")
    return Seat(home, study, rater_id)


# --- comparing


def _compare(seat: Seat) -> None:
    database, study_id = seat.home.database, seat.study.study_id
    pairs, done = database.pairs(study_id), database.voted(seat.rater_id, study_id)
    _progress(len(done), [len(QUESTIONS) * n for n in (seat.study.n_shared, len(pairs))])
    task = next_pair(
        pairs,
        done,
        rater_id=seat.rater_id,
        blinding=seat.home.blinding,
        n_shared=seat.study.n_shared,
    )
    if task is None:
        st.success("You have compared every pair. Thank you!")
        return
    _ask(task.pair, task.question, compares=True)
    answer = _once(seat, task.pair.pair_id, task.question, _cast, task)
    _buttons(_CHOICES, answer, len(done))
    left, middle, right = st.columns([5, 2, 5])
    left.image(_url("picture", task.left_key), "Left", width="stretch", alt="left picture")
    right.image(_url("picture", task.right_key), "Right", width="stretch", alt="right picture")
    with middle:
        _show_aim(seat, task.pair, task.question, task.left_key)
    _privacy(seat)


def _cast(seat: Seat, task: PairTask, choice: Choice, seconds: float) -> None:
    vote = Vote(
        rater_id=seat.rater_id,
        pair_id=task.pair.pair_id,
        question=task.question,
        answer=task.answer(choice),
        shown_left=task.shown_left,
        seconds=seconds,
    )
    seat.home.database.cast(vote, **_origin(seat))


# --- rating


def _rate(seat: Seat) -> None:
    database, study_id = seat.home.database, seat.study.study_id
    pictures, done = database.pictures(study_id), database.rated(seat.rater_id, study_id)
    _progress(len(done), [len(QUESTIONS) * len(pictures)])
    task = next_picture(pictures, done, rater_id=seat.rater_id, blinding=seat.home.blinding)
    if task is None:
        st.success("You have rated every picture. Thank you!")
        return
    key = task.picture.picture_key
    _ask(task.picture, task.question, compares=False)
    _buttons(_STARS, _once(seat, key, task.question, _store_rating, task), len(done))
    left, right = st.columns([5, 7])
    left.image(_url("picture", key), width="stretch", alt="picture to rate")
    with right:
        _show_aim(seat, task.picture, task.question, key)
    _privacy(seat)


def _store_rating(seat: Seat, task: PictureTask, stars: int | None, seconds: float) -> None:
    rating = Rating(
        rater_id=seat.rater_id,
        picture_key=task.picture.picture_key,
        question=task.question,
        rating=stars,
        seconds=seconds,
    )
    seat.home.database.rate(rating, **_origin(seat))


# --- shared parts


def _ask(scene: Any, question: Question, *, compares: bool) -> None:
    """Show the question as a heading, after the error of the last answer, if any."""
    refusal = st.session_state.pop("refusal", None)
    if refusal is not None:
        st.error(literal(refusal))
    aim = "the small one" if scene.condition_path is not None else "the style of the small ones"
    if question == "quality":
        text = "Which picture looks better made?" if compares else "How well made is the picture?"
        st.subheader("Image quality: " + text, anchor=False)
    else:
        text = "Which picture follows" if compares else "How well does the picture follow"
        more = " more closely" if compares else ""
        st.subheader(f"Fidelity: {text} {aim}{more}?", anchor=False)


def _buttons(
    choices: Sequence[tuple[Any, str, str]], answer: Callable[[Any], None], n_done: int
) -> None:
    """Show a button with its key per choice; a double key press cannot answer the next question."""
    row = st.container(horizontal=True)  # narrow screens would stack columns
    for choice, label, key in choices:
        row.button(
            label,
            key=f"answer-{label}-{n_done}",
            shortcut=key,
            on_click=answer,
            args=(choice,),
            width="stretch",
        )


def _show_aim(seat: Seat, scene: Any, question: Question, key: str) -> None:
    """Show the prompt; for fidelity also the condition, or examples of the style."""
    st.caption("Prompt: " + literal(scene.prompt))
    if question == "quality":
        return
    if scene.condition_path is not None:
        st.image(_url("condition", key), width=_SMALL_PX, alt="the condition")
        return
    pictures = seat.home.database.pictures(seat.study.study_id)
    n_examples = len(example_pictures(pictures, scene, n=N_EXAMPLES))
    urls = [_url(f"example-{n}", key) for n in range(n_examples)]
    alts = [f"example {n + 1} of the style" for n in range(n_examples)]
    if urls:
        st.image(urls, width=_SMALL_PX, alt=alts)


def _once(
    seat: Seat, item: str, question: Question, store: Callable[..., None], task: Any
) -> Callable[[Any], None]:
    """Return a callback that stores an answer with the time since the question was displayed."""
    displayed = st.session_state.get("displayed")
    if displayed is None or displayed[:2] != (item, question):
        st.session_state["displayed"] = displayed = (item, question, time.monotonic())

    def answer(choice: Any) -> None:
        try:
            store(seat, task, choice, time.monotonic() - displayed[2])
        except UserError as error:
            st.session_state["refusal"] = str(error)

    return answer


def _progress(n_done: int, goals: Sequence[int]) -> None:
    """Show the progress to the next goal."""
    goal = next((goal for goal in goals if n_done < goal), goals[-1])
    st.progress(n_done / max(goal, 1), text=f"{n_done} of {goal} answers counted")


def _privacy(seat: Seat) -> None:
    st.caption("Every button shows its key. Answers are stored immediately.")
    with st.expander("What is stored"):
        st.caption(literal(_PRIVACY.format(rater=seat.rater_id)))


def _url(what: str, key: str) -> str:
    return site_address(f"study-image/{what}/{key}")


def _origin(seat: Seat) -> dict[str, str | None]:
    """Return the codes of the visitor's address and network; browsers on this machine are one."""
    address = st.context.ip_address
    known = address if isinstance(address, str) else None  # None for a local browser
    blinding = seat.home.blinding
    return {
        "address_code": blinding.address_code(known) if known else None,
        "network": blinding.network_code(seat.study.study_id, known or "127.0.0.1"),
    }


def _results(seat: Seat) -> None:
    show_results(seat.home.database, seat.study)


PAGE = Page("Study", "study", show, order=2)
