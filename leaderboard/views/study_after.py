"""After an answer of the study: take it back, or see which method made which picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from bench.analysis.glossary import method_name
from bench.errors import UserError
from leaderboard.escape import literal, one_line
from leaderboard.study import Study
from leaderboard.study.afterwards import Given, Kind, last_answer, reveal, undo
from leaderboard.study.config import Voting
from leaderboard.study.schema import SCALE
from leaderboard.study.tasks import Choice
from leaderboard.ui import site_address
from leaderboard.ui.enlarge import Shown, show_pictures

# choice, label, key
CHOICES: tuple[tuple[Choice, str, str], ...] = (
    ("left", "Left", "Left"),
    ("tie", "No difference", "0"),
    ("skip", "Skip", "S"),
    ("right", "Right", "Right"),
)
_WORDS = dict(zip(SCALE, ("very poor", "poor", "fair", "good", "very good"), strict=True))
STARS: tuple[tuple[int | None, str, str], ...] = (
    *((stars, word, str(stars)) for stars, word in _WORDS.items()),
    (None, "Skip", "S"),
)
_QUESTIONS: Mapping[str, str] = {"quality": "image quality", "fidelity": "fidelity"}
REFUSAL = "refusal"  # the message of an answer that was not stored


@dataclass(frozen=True)
class Seat:
    """One rater in one study."""

    home: Voting
    study: Study
    rater_id: str

    def origin(self) -> dict[str, str | None]:
        """Return the codes of the visitor's address and network; browsers here are one network."""
        address = st.context.ip_address
        known = address if isinstance(address, str) else None  # None for a local browser
        blinding = self.home.blinding
        return {
            "address_code": blinding.address_code(known) if known else None,
            "network": blinding.network_code(self.study.study_id, known or "127.0.0.1"),
        }


def picture_url(what: str, key: str) -> str:
    """Return the address of a picture, its condition or an example, which names no method."""
    return site_address(f"study-image/{what}/{key}")


def show_last_answer(seat: Seat, kind: Kind) -> None:
    """Show the rater's last answer, with buttons to take it back and to see the methods."""
    given = last_answer(seat.home.database, seat.rater_id, seat.study.study_id, kind=kind)
    if given is None:
        return
    text = f"Your last answer: {_answer_text(given)} ({_QUESTIONS[given.question]})"
    with st.container(horizontal=True, vertical_alignment="center", key="last"):
        st.caption(literal(text), width="content")
        if not given.is_revealed:
            st.button(
                "Undo",
                key=f"undo-{given.item}-{given.question}",
                shortcut="U",
                on_click=_undo,
                args=(seat, given),
            )
        if given.is_closed and not given.is_shown:
            st.button(
                "Show the methods",
                key=f"reveal-{given.item}",
                help="Then the answers about these pictures are final",
                on_click=_reveal,
                args=(seat, given),
            )
    if given.is_shown:
        _show_methods(seat, given)


def _undo(seat: Seat, given: Given) -> None:
    try:
        undo(seat.home.database, given, address_code=seat.origin()["address_code"])
    except UserError as error:
        st.session_state[REFUSAL] = str(error)


def _reveal(seat: Seat, given: Given) -> None:
    try:
        reveal(seat.home.database, given)
    except UserError as error:
        st.session_state[REFUSAL] = str(error)


def _show_methods(seat: Seat, given: Given) -> None:
    """Show which method made which picture of an answer, in the order it was shown."""
    keys = given.keys if given.shown_left in (None, "first") else given.keys[::-1]
    rows = [row for key in keys if (row := seat.home.database.picture(key)) is not None]
    sides = ("Left: ", "Right: ") if len(keys) == 2 else ("",)
    names = [side + _method_text(row) for side, row in zip(sides, rows, strict=True)]
    plugin = f"{rows[0].plugin} ({rows[0].kind})"
    st.caption(f"**{literal('; '.join(names))}**, plugin {literal(plugin)}")
    with st.container(width=360):
        shown = [
            Shown(picture_url("picture", row.picture_key), one_line(name), one_line(name))
            for row, name in zip(rows, names, strict=True)
        ]
        show_pictures(shown, key="revealed", has_key=False)


def _method_text(row: Any) -> str:
    """Return a picture's method with its settings: 'X-Adapter, t0 0.8'."""
    parts = [method_name(row.method)]
    if row.t0 is not None:
        parts.append(f"t0 {row.t0:g}")
    for name, scale in (("plugin", row.plugin_scale), ("adapter", row.adapter_scale)):
        if scale is not None and scale != 1:
            parts.append(f"{name} x{scale:g}")
    return ", ".join(parts)


def _answer_text(given: Given) -> str:
    if given.kind == "rating":
        return "Skip" if given.answer == "skip" else _WORDS[int(given.answer)]
    if given.answer in ("tie", "skip"):
        return next(label for choice, label, _ in CHOICES if choice == given.answer)
    return "Left" if given.answer == given.shown_left else "Right"
