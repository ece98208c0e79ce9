"""Compare: two runs, usually two versions of an adapter, and losses between them."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from bench.store import Row
from leaderboard.data import Run, RunTables, current_runs
from leaderboard.escape import literal, one_line
from leaderboard.figures.charts import difference_chart
from leaderboard.figures.differences import (
    FUNCTION,
    Verdict,
    common_methods,
    common_metrics,
    differences_sentence,
    first_pair,
    gate_of,
    paired_images,
    plugin_differences,
    worst_pairs,
)
from leaderboard.ui import Page, choose_run, heading, interval
from leaderboard.ui.numbers import number
from leaderboard.ui.page import NO_RUNS, show_problems
from leaderboard.ui.selection import choose_one, choose_page
from leaderboard.web import picture_address
from leaderboard.web.pictures import What

_N_WORST = 8
_PLUGINS_PER_PAGE = 25
_CELL_PX = 124
_VERDICTS = {
    "pass": st.success,
    "identical": st.success,
    "real loss inside the margin": st.warning,
    "regression": st.error,
    "inconclusive": st.warning,
}
_LOSSES = ("regression", "real loss inside the margin")


def show() -> None:
    """Draw the page."""
    heading(
        "Did the new weights make anything worse?",
        "Two runs of the same prompts and seeds. Differences above 0 mean that the candidate is "
        "better; intervals are over whole prompts, and exist from 12 prompts on.",
    )
    chosen = _choose_two()
    if chosen is None:
        return
    (baseline, old), (candidate, new) = chosen
    _verdict(baseline, candidate)
    methods = common_methods(old, new)
    if not methods:
        st.info("The two runs have no method in common.")
        return
    left, right = st.columns(2)
    with left:
        method = choose_one("Method", methods, key="compared_method")
    with right:
        metrics = [FUNCTION, *common_metrics(old, new, method)]
        metric = choose_one("Metric", metrics, key="compared_metric")
    pairs = paired_images(old, new, metric=metric, method=method)
    if pairs.empty:
        st.info("The two runs have no comparable scores: same case, seed, settings and metric.")
        return
    _differences(pairs)
    _worst(worst_pairs(pairs, new, n=_N_WORST), baseline, candidate)


def _choose_two() -> tuple[tuple[Run, RunTables], tuple[Run, RunTables]] | None:
    runs = current_runs()
    if len(runs) < 2:
        st.info("A comparison needs two runs." if runs else NO_RUNS)
        return None
    first = first_pair(runs)
    left, right = st.columns(2)
    with left:
        baseline = choose_run("Baseline", key="baseline", runs=runs, default=first[0])
    with right:
        candidate = choose_run("Candidate", key="candidate", runs=runs, default=first[1])
    if baseline is None or candidate is None:
        return None
    for run, tables in (baseline, candidate):
        show_problems(f"{run.key}: {problem}" for problem in tables.problems)
    if baseline[0].key == candidate[0].key:
        st.info("Choose two different runs.")
        return None
    return baseline, candidate


def _verdict(baseline: Run, candidate: Run) -> None:
    found = gate_of(baseline, candidate)
    st.subheader("Verdict of the gate", anchor=False)
    if found is None:
        st.info(
            literal(
                "No gate compared this candidate with this baseline. To get a verdict: xbench gate "
                f"{baseline.key} {candidate.key}"
            )
        )
        return
    n_lost = sum(test["verdict"] in _LOSSES for test in found.tests)
    summary = f"{found.verdict or 'unknown'}: {n_lost} of {len(found.tests)} tests found a loss"
    _VERDICTS.get(found.verdict, st.warning)(literal(summary))
    with st.expander("Tests", expanded=n_lost > 0, icon=":material/checklist:"):
        rows = [_test_row(test) for test in found.tests]
        st.dataframe(pd.DataFrame(rows), hide_index=True, placeholder="", alt="Tests of the gate")
        st.caption(literal(_when(found)))


def _test_row(test: Row) -> Row:
    return {
        "Plugin": one_line(test["plugin"]),
        "Metric": one_line(test["metric"]),
        "Better": one_line(test["better"]),
        "Verdict": one_line(test["verdict"]),
        "Candidate - baseline": interval(
            test["difference"], test["low"], test["high"], signed=True
        ),
        "Margin": test["margin"],
        "Prompts": test["n_prompts"],
        "In words": one_line(test["sentence"] or test["reason"]),
    }


def _when(found: Verdict) -> str:
    return (
        f"Made {found.created or 'at an unknown time'}. Verdicts are corrected for the number of "
        "tests and for early looks; the intervals are not."
    )


def _differences(pairs: pd.DataFrame) -> None:
    st.subheader("Differences by plugin", anchor=False)
    rows = plugin_differences(pairs)
    st.markdown(literal(differences_sentence(rows)))
    page = choose_page(len(rows), per_page=_PLUGINS_PER_PAGE, key="plugins_page")
    visible = rows[page * _PLUGINS_PER_PAGE : (page + 1) * _PLUGINS_PER_PAGE]
    several = len({row["metric"] for row in rows}) > 1
    for row in visible:
        row["text"] = interval(row["value"], row["low"], row["high"], signed=True)
        row["plugin"] = f"{row['plugin']}, {row['metric']}" if several else row["plugin"]
    alt = "; ".join(f"{row['plugin']} {row['text']}" for row in visible)
    st.vega_lite_chart(
        difference_chart(visible, title="candidate better \u2192"), alt=one_line(alt)
    )
    st.caption(
        "Worse and better are shown: two-sided tests over prompts at 5 %, corrected by Holm for "
        "all comparisons of this choice. The intervals are not corrected."
    )
    frame = pd.DataFrame([_difference_row(row) for row in visible])
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(frame, hide_index=True, placeholder="", alt="Differences by plugin")


def _difference_row(row: Row) -> Row:
    return {
        "Plugin": row["plugin"],
        "Metric": row["metric"],
        "Candidate is": row["word"],
        "Difference [95 %]": row["text"],
        "p (Holm)": number(row["p"]),
        "Images": row["n"],
        "Prompts": row["n_prompts"],
        "Note": row["reason"],
    }


def _worst(rows: list[Row], baseline: Run, candidate: Run) -> None:
    st.subheader("Images that lost most", anchor=False)
    if not rows:
        st.info("No image got worse.")
        return
    with st.container(horizontal=True):
        for row in rows:
            n_pictures = 3 if row["has_condition"] else 2
            with st.container(border=True, width=n_pictures * (_CELL_PX + 30), gap="small"):
                _pair(row, baseline, candidate)


def _pair(row: Row, baseline: Run, candidate: Run) -> None:
    old = (f"baseline {number(row['value_old'])}", baseline, "small", row["trial_old"])
    new = (f"candidate {number(row['value_new'])}", candidate, "small", row["trial_new"])
    condition = ("condition", candidate, "condition", row["trial_new"])
    sides: tuple[tuple[str, Run, What, str], ...]
    sides = (condition, old, new) if row["has_condition"] else (old, new)
    with st.container(horizontal=True):
        for caption, run, what, trial in sides:
            address = picture_address(run, what, trial)
            with st.container(width=_CELL_PX, gap=None):
                st.image(
                    address, width="stretch", alt=one_line(f"{caption}: {row['prompt'] or ''}")
                )
                st.caption(literal(caption))
    change = number(row["difference"], signed=True)
    st.caption(
        literal(f"{row['plugin']}, {row['label']}, {row['metric']} {change}: {row['prompt'] or ''}")
    )


PAGE = Page("Compare", "compare", show, order=1)
