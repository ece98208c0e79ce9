"""Results of a study: robust and raw rankings, agreement, ratings next to the paper's."""

from __future__ import annotations

import io
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from bench.analysis.words import more_votes
from bench.store import Row, records
from leaderboard.escape import literal, one_line
from leaderboard.study import Study, VotesDatabase
from leaderboard.study.export import rating_table, vote_table
from leaderboard.study.results import (
    PAPER_FAMILY,
    QuestionResult,
    Robust,
    question_result,
    ranking_rows,
    ranking_sentence,
    rating_agreement,
    rating_rows,
    robust_ratings,
    robust_votes,
)
from leaderboard.study.schema import QUESTIONS, Question
from metrics.stats import Estimate

_TITLES: dict[Question, str] = {
    "quality": "Image quality",
    "fidelity": "Fidelity to the condition or style",
}
_ALL = "all"
# readable on light and dark; gray where a result says nothing yet
_BLUE, _GRAY = "#2a8fd0", "#7b8087"


def show_results(database: VotesDatabase, study: Study) -> None:
    """Show rankings, agreement and ratings of a study, robust and raw."""
    frame = vote_table(database, study_id=study.study_id)
    votes, ratings = records(frame), records(rating_table(database, study_id=study.study_id))
    kinds = sorted({row["kind"] for row in (*votes, *ratings)})
    kind = _ALL
    if len(kinds) > 1:
        kind = st.selectbox(
            "Plugin kind", [_ALL, *kinds], key="kind", bind="query-params", format_func=one_line
        )
        ratings = [row for row in ratings if kind in (_ALL, row["kind"])]
    for question in QUESTIONS:
        # the weights are those of the whole study, whatever part of it is shown
        _question(question, votes, robust_votes(votes, question), kind)
    _ratings(ratings, study.family)
    if len(frame):
        parquet = io.BytesIO()
        frame.to_parquet(parquet, index=False)
        st.download_button("Download the votes (Parquet)", parquet.getvalue(), "votes.parquet")


def _question(question: Question, votes: list[Row], robust: Robust, kind: str) -> None:
    st.subheader(_TITLES[question], anchor=False)
    raw = question_result([row for row in votes if kind in (_ALL, row["kind"])], question)
    if not ranking_rows(raw.ranking):
        st.info("No votes yet.")
        return
    if robust.is_raw:
        _result(question, raw, "")
        return
    pairs = zip(robust.votes, robust.weights, strict=True)
    kept = [(vote, weight) for vote, weight in pairs if kind in (_ALL, vote["kind"])]
    _result(
        question, question_result([v for v, _ in kept], question, [w for _, w in kept]), ", robust"
    )
    st.caption(literal(_rules(robust)))
    with st.expander("Raw: every vote as it was given", icon=":material/raw_on:"):
        _result(question, raw, ", raw")


def _rules(robust: Robust) -> str:
    return (
        f"Robust: without {robust.n_excluded} raters that the operator excluded and "
        f"{robust.n_left_out} that disagree with most others; no rater counts for more than two "
        f"typical raters and no network for more than three ({robust.n_capped} networks count less)"
    )


def _result(question: Question, result: QuestionResult, which: str) -> None:
    """Show one ranking with its facts."""
    rows = ranking_rows(result.ranking)
    if not rows:
        st.info("No vote is left.")
        return
    st.markdown(literal(ranking_sentence(rows)))
    st.altair_chart(_chart(rows), alt=f"Chance to win of each method: {_TITLES[question]}{which}")
    table = _ranking_table(rows)
    grays = [f"color: {_GRAY}" if row["more_votes"] else "" for row in rows]
    st.dataframe(
        table.style.apply(lambda column: grays, axis=0),
        hide_index=True,
        alt=f"Ranking: {_TITLES[question]}{which}",
    )
    facts = [
        f"votes {result.n_votes}, raters {result.ranking.n_raters}, "
        f"prompts {result.ranking.n_prompts}, skipped {result.n_skipped}",
        f"agreement (Krippendorff's alpha) {estimate_text(result.agreement)}",
        f"ties between equals {result.ranking.tie_odds:.2f} : 1",
    ]
    if result.left_share is not None:
        facts.append(
            f"the left picture won {100 * result.left_share:.0f} % of the votes with a winner"
        )
    if result.median_seconds is not None:
        facts.append(f"median {result.median_seconds:.1f} s per vote")
    if result.ranking.reason:
        facts.append(f"no intervals: {result.ranking.reason}")
    st.caption(literal("; ".join(facts)))


def _ratings(ratings: list[Row], family: str) -> None:
    st.subheader("Ratings from 1 to 5", anchor=False)
    kept, weights = robust_ratings(ratings)
    rows = rating_rows(kept, family=family, weights=weights)
    if not rows:
        st.info("No ratings yet.")
        return
    frame = pd.DataFrame(
        {
            "plugin kind": row["kind"],
            "method": row["method"],
            "question": row["question"],
            "mean ± sd": _plus_minus(row["mean"], row["sd"]),
            "raters": row["raters"],
            "ratings": row["ratings"],
            **_paper(row, family),
        }
        for row in rows
    )
    st.dataframe(frame, hide_index=True, alt="Ratings of each method")
    facts = [
        f"agreement on {question} {estimate_text(rating_agreement(ratings, question))}"
        for question in QUESTIONS
    ]
    st.caption(literal("; ".join([*facts, "sd is over raters' means"])))


def _paper(row: Row, family: str) -> dict[str, str]:
    if family != PAPER_FAMILY:
        return {}
    return {"paper (5 users)": _plus_minus(row["paper_mean"], row["paper_sd"])}


def _ranking_table(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "rank": _ranks(row),
            "method": row["method"],
            "result": _result_text(row),
            "chance to win": _interval(row, "score"),
            "strength (log odds)": _interval(row, "strength"),
            "won": row["wins"],
            "tied": row["ties"],
            "lost": row["losses"],
        }
        for row in rows
    )


def _result_text(row: Row) -> str:
    """Return whether a method wins more often than not, or how many votes tell it."""
    if row["more_votes"]:
        return more_votes(row["more_votes"])
    return "wins more often" if row["score"] > 0.5 else "wins less often"


def _chart(rows: list[Row]) -> Any:
    """Draw chances to win with intervals; gray ones are not told from an even chance yet."""
    frame = pd.DataFrame(rows)
    frame["color"] = [_GRAY if row["more_votes"] else _BLUE for row in rows]
    frame["note"] = [_result_text(row) if row["more_votes"] else "" for row in rows]
    order = frame["method"].tolist()
    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(tickCount=5)
    method = alt.Y("method:N", sort=order, title=None)
    color = alt.Color("color:N", scale=None)
    points = (
        alt.Chart(frame)
        .mark_point(filled=True, size=90)
        .encode(x=alt.X("score:Q", title="chance to win", scale=scale, axis=axis), color=color)
    )
    spans = (
        alt.Chart(frame)
        .mark_rule(strokeWidth=2)
        .encode(x=alt.X("score_low:Q", scale=scale), x2="score_high:Q", color=color)
    )
    notes = (
        alt.Chart(frame)
        .mark_text(dy=-12, fontSize=11)
        .encode(x=alt.X("score:Q", scale=scale), text="note:N", color=color)
    )
    even = (
        alt.Chart(pd.DataFrame({"x": [0.5]}))
        .mark_rule(strokeDash=[4, 4], color=_GRAY)
        .encode(x="x:Q")
    )
    layers = even + (spans + points + notes).encode(y=method)
    return layers.properties(height=alt.Step(40))


def estimate_text(estimate: Estimate) -> str:
    """Return a number with its interval, or the reason why it is missing."""
    if estimate.value is None:
        return f"unknown ({estimate.reason})"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _interval(row: Row, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    span = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    return f"{row[name]:.2f}{span}"


def _ranks(row: Row) -> str:
    low, high = row["rank_low"], row["rank_high"]
    return str(row["rank"]) if low is None else f"{row['rank']} [{low} to {high}]"


def _plus_minus(mean: float | None, sd: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"
