"""Study: blinded pairs to compare, single pictures to rate, and the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import streamlit as st

from bench.errors import UserError
from leaderboard.escape import literal, one_line
from leaderboard.study import Vote, study_of, voting
from leaderboard.study.afterwards import revealed
from leaderboard.study.config import COOKIE
from leaderboard.study.pictures import N_EXAMPLES
from leaderboard.study.runs import StudySource, study_sources
from leaderboard.study.schema import Question
from leaderboard.study.tasks import (
    Choice,
    PairTask,
    PictureTask,
    example_pictures,
    n_open,
    next_pair,
    next_picture,
    open_pairs,
    open_pictures,
)
from leaderboard.study.votes import Rating
from leaderboard.ui import Page
from leaderboard.ui.enlarge import Shown, show_pictures
from leaderboard.views.study_after import (
    CHOICES,
    REFUSAL,
    STARS,
    Seat,
    picture_url,
    show_last_answer,
)
from leaderboard.views.study_results import show_results

Part = Literal["Compare", "Rate", "Results"]
_PARTS: tuple[Part, ...] = ("Compare", "Rate", "Results")
_PRIVACY = (
    "Stored about you: a random number from a cookie of this site, your answers, when you gave "
    "them and how long you took, and a code of your network (a keyed hash of the first part of "
    "the address, for this study only). No name and no address. To have your answers deleted, "
    "give this number to the operator of this site: {rater}"
)


# question, pictures and answers fit on one screen; on phones the answers stay in reach of the thumb
_STYLE = """<style>
.st-key-study h1 { font-size: 1.75rem; padding: 0; }
.st-key-study h3 { padding: 0.25rem 0; }
@media (max-width: 640px) {
  .st-key-study h1 { font-size: 1.25rem; }
  .st-key-study h3 { font-size: 1.1rem; }
  .st-key-answers { position: sticky; bottom: 0; z-index: 10; padding: 6px 0; gap: 6px;
    backdrop-filter: blur(12px); }
  .st-key-answers kbd { display: none; }
  .st-key-answers button { padding-inline: 0.5rem; }
}
</style>"""


def show() -> None:
    """Draw the page."""
    st.html(_STYLE)
    with st.container(key="study", gap="small"):
        _show()


def _show() -> None:
    sources = study_sources()
    head = st.container(horizontal=True, vertical_alignment="center")
    head.title("Study", anchor=False, width="content")
    if not sources:
        st.info("There are no results to study yet: a study begins when its run is finished.")
        return
    part = head.segmented_control(
        "Part",
        _PARTS,
        default="Compare",
        key="part",
        required=True,
        bind="query-params",
        label_visibility="collapsed",
    )
    run = head.selectbox(
        "Run",
        list(sources),
        key="run",
        bind="query-params",
        format_func=one_line,
        label_visibility="collapsed",
        width=220,
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
    database, study = seat.home.database, seat.study
    pairs, done = database.pairs(study.study_id), database.voted(seat.rater_id, study.study_id)
    shown = revealed(database, seat.rater_id)
    task = next_pair(
        pairs,
        done,
        rater_id=seat.rater_id,
        blinding=seat.home.blinding,
        n_shared=study.n_shared,
        revealed=shown,
    )
    left = open_pairs(pairs, done, revealed=shown)
    first_round = [pair for pair in left if pair.position < study.n_shared]
    n_left = n_open([pair.pair_id for pair in first_round or left], done)
    _progress(len(done), n_left, database.skipped(seat.rater_id, study.study_id))
    if task is None:
        st.success("You have compared every pair. Thank you!")
        show_last_answer(seat, "vote")
        return
    _ask(task.pair, task.question, compares=True)
    pictures = [
        Shown(picture_url("picture", task.left_key), "Left", "left picture"),
        Shown(picture_url("picture", task.right_key), "Right", "right picture"),
    ]
    show_pictures(pictures, aims=_aims(seat, task.pair, task.question, task.left_key), key="pair")
    answer = _once(seat, task.pair.pair_id, task.question, _cast, task)
    _buttons(CHOICES, answer, len(done))
    show_last_answer(seat, "vote")
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
    seat.home.database.cast(vote, **seat.origin())


# --- rating


def _rate(seat: Seat) -> None:
    database, study_id = seat.home.database, seat.study.study_id
    pictures, done = database.pictures(study_id), database.rated(seat.rater_id, study_id)
    shown = revealed(database, seat.rater_id)
    left = open_pictures(pictures, done, revealed=shown)
    n_left = n_open([picture.picture_key for picture in left], done)
    _progress(len(done), n_left, database.unrated(seat.rater_id, study_id))
    task = next_picture(
        pictures, done, rater_id=seat.rater_id, blinding=seat.home.blinding, revealed=shown
    )
    if task is None:
        st.success("You have rated every picture. Thank you!")
        show_last_answer(seat, "rating")
        return
    key = task.picture.picture_key
    _ask(task.picture, task.question, compares=False)
    picture = Shown(picture_url("picture", key), "Picture", "picture to rate")
    show_pictures([picture], aims=_aims(seat, task.picture, task.question, key), key="rated")
    _buttons(STARS, _once(seat, key, task.question, _store_rating, task), len(done))
    show_last_answer(seat, "rating")
    _privacy(seat)


def _store_rating(seat: Seat, task: PictureTask, stars: int | None, seconds: float) -> None:
    rating = Rating(
        rater_id=seat.rater_id,
        picture_key=task.picture.picture_key,
        question=task.question,
        rating=stars,
        seconds=seconds,
    )
    seat.home.database.rate(rating, **seat.origin())


# --- shared parts


def _ask(scene: Any, question: Question, *, compares: bool) -> None:
    """Show the question and the prompt, after the error of the last answer, if any."""
    refusal = st.session_state.pop(REFUSAL, None)
    if refusal is not None:
        st.error(literal(refusal))
    aim = "the condition" if scene.condition_path is not None else "the style of the examples"
    if question == "quality":
        text = "Which picture looks better made?" if compares else "How well made is the picture?"
        st.subheader("Image quality: " + text, anchor=False)
    else:
        text = "Which picture follows" if compares else "How well does the picture follow"
        more = " more closely" if compares else ""
        st.subheader(f"Fidelity: {text} {aim}{more}?", anchor=False)
    st.caption("Prompt: " + literal(scene.prompt))


def _buttons(
    choices: Sequence[tuple[Any, str, str]], answer: Callable[[Any], None], n_done: int
) -> None:
    """Show a button with its key per choice; a double key press cannot answer the next question."""
    row = st.container(horizontal=True, key="answers")  # narrow screens would stack columns
    for choice, label, key in choices:
        row.button(
            label,
            key=f"answer-{label}-{n_done}",
            shortcut=key,
            on_click=answer,
            args=(choice,),
            width="stretch",
        )


def _aims(seat: Seat, scene: Any, question: Question, key: str) -> list[Shown]:
    """Return what fidelity is about: the condition image, or examples of the style."""
    if question == "quality":
        return []
    if scene.condition_path is not None:
        return [Shown(picture_url("condition", key), "Condition", "the condition")]
    pictures = seat.home.database.pictures(seat.study.study_id)
    n_examples = len(example_pictures(pictures, scene, n=N_EXAMPLES))
    return [
        Shown(picture_url(f"example-{n}", key), f"Style {n + 1}", f"example {n + 1} of the style")
        for n in range(n_examples)
    ]


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
            st.session_state[REFUSAL] = str(error)

    return answer


def _progress(n_done: int, n_left: int, n_skipped: int) -> None:
    """Show the progress to the next goal; a skipped question is not an answer and no goal."""
    n_answers = n_done - n_skipped
    goal = n_answers + n_left
    skipped = f", {n_skipped} skipped" if n_skipped else ""
    text = f"{n_answers} of {goal} answers counted{skipped}"
    st.progress(n_answers / goal if goal else 1.0, text=text)


def _privacy(seat: Seat) -> None:
    st.caption(
        "Every button shows its key; E or a click enlarges a picture. Answers are stored "
        "immediately; the methods that made the pictures are hidden until you ask for them."
    )
    with st.expander("What is stored"):
        st.caption(literal(_PRIVACY.format(rater=seat.rater_id)))


def _results(seat: Seat) -> None:
    show_results(seat.home.database, seat.study)


PAGE = Page("Study", "study", show, order=2)
