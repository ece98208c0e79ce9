"""Compare: any number of runs, usually versions of an adapter, against a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from bench.analysis.glossary import method_name
from bench.site.rendering import part
from bench.store import Row
from leaderboard.data import Run, current_runs, open_tables
from leaderboard.escape import one_line
from leaderboard.figures.arms import setting_id
from leaderboard.figures.comparison import difference_text, matrix, p_text, shown_cells
from leaderboard.figures.differences import Comparison, Line, compare_runs
from leaderboard.figures.gates import first_pair
from leaderboard.figures.pairs import FUNCTION, Choice, common_methods, common_metrics
from leaderboard.ui import Page, choose_run, page_title, site_address
from leaderboard.ui.fragments import enhance_fragments, show_fragment
from leaderboard.ui.named import choose_named
from leaderboard.ui.page import NO_RUNS, show_notes, show_problems
from leaderboard.ui.selection import choose_one, choose_page
from leaderboard.views.compare_gates import show_gates
from leaderboard.views.compare_pictures import show_losses, show_pictures

_TITLE = "Did the new weights make anything worse?"
_CELLS_PER_PAGE, _MAX_LINES = 60, 25


def show() -> None:
    """Draw the page."""
    page_title(_TITLE)
    answer = st.container()
    show_notes()
    chosen = _choose_runs()
    choice = _choose_what(*chosen) if chosen else None
    if chosen is None or choice is None:
        if chosen:
            st.info("The runs have no method in common with the baseline.")
        _answer(answer, "")
        return
    baseline, candidates = chosen
    comparison = compare_runs(baseline, candidates, choice)
    for run in (baseline, *candidates):
        show_problems(f"{run.key}: {problem}" for problem in open_tables(run).problems)
    _answer(answer, comparison.sentence)
    lines = _choose_lines(comparison)
    if lines:
        _matrix(baseline, candidates, comparison, lines)
    show_gates(baseline, candidates)
    if comparison.cells:
        show_losses(baseline, candidates, comparison)
    show_pictures(baseline, candidates, comparison, lines)
    enhance_fragments()


def _answer(place: DeltaGenerator, sentence: str) -> None:
    with place:
        show_fragment(part("comparison_sentence", title=_TITLE, sentence=sentence))


def _choose_runs() -> tuple[Run, list[Run]] | None:
    runs = current_runs()
    if len(runs) < 2:
        st.info("A comparison needs two runs." if runs else NO_RUNS)
        return None
    first = first_pair(runs)
    left, right = st.columns([1, 2])
    with left:
        found = choose_run("Baseline", key="baseline", runs=runs, default=first[0])
    with right:
        names = st.multiselect(
            "Candidates",
            list(runs),
            default=[first[1]],
            key="candidate",
            bind="query-params",
            format_func=one_line,
            placeholder="Choose runs",
        )
    if found is None:
        return None
    candidates = [runs[name] for name in names if name != found[0].key]
    if not candidates:
        st.info("Choose two different runs.")
        return None
    return found[0], candidates


def _choose_what(baseline: Run, candidates: Sequence[Run]) -> Choice | None:
    methods = common_methods(baseline, candidates)
    if not methods:
        return None
    left, middle, right = st.columns([1, 1, 1], vertical_alignment="bottom")
    with left:
        names = {method: method_name(method) for method in methods}
        method = choose_named("Method", names, key="compared_method")
    with middle:
        metrics = [FUNCTION, *common_metrics(baseline, candidates, method)]
        metric = choose_one("Metric", metrics, key="compared_metric")
    with right:
        by_setting = st.toggle("Each setting by itself", key="by_setting", bind="query-params")
    return Choice(method, metric, by_setting)


def _choose_lines(comparison: Comparison) -> list[Line]:
    """Return the lines of the chosen page; none, with the reason, if there is nothing to show."""
    if not comparison.cells:
        if comparison.compared:
            st.info("The runs have no comparable scores: same case, seed, settings and metric.")
        return []
    is_short = st.toggle("Differences only", key="differences", bind="query-params")
    lines = comparison.differing if is_short else list(comparison.cells)
    if not lines:
        st.info("No difference: nothing is told apart from the baseline.")
        return []
    if len(lines) < len(comparison.cells):
        hidden = len(comparison.cells) - len(lines)
        st.caption(f"{hidden:,} without a difference hidden")
    per_page = max(5, min(_MAX_LINES, _CELLS_PER_PAGE // len(comparison.compared)))
    page = choose_page(len(lines), per_page=per_page, key="plugins_page")
    return lines[page * per_page : (page + 1) * per_page]


def _matrix(
    baseline: Run, candidates: Sequence[Run], comparison: Comparison, lines: Sequence[Line]
) -> None:
    def plugin_link(run: str, plugin: str) -> str:
        return site_address("plugin", run=run, plugin=plugin)

    view = matrix(baseline, candidates, comparison, lines, plugin_link)
    show_fragment(part("comparison", matrix=view))
    cells = shown_cells(baseline, candidates, comparison, lines)
    rows = [_table_row(row, comparison.choice) for line in lines for row in cells[line].values()]
    n = sum(len(by_run) for by_run in comparison.cells.values())
    st.caption(
        "Worse and better are shown: two-sided tests over prompts at 5 %, corrected by Holm for "
        f"all comparisons of this choice ({n:,}, on all pages). The intervals are not corrected. "
        "Both exist from 12 prompts on."
    )
    with st.expander("As a table", icon=":material/table:"):
        st.dataframe(
            pd.DataFrame(rows), hide_index=True, placeholder="", alt="Differences by plugin and run"
        )


def _table_row(row: Row, choice: Choice) -> dict[str, Any]:
    setting = {}
    if choice.by_setting:
        setting = {"Setting": setting_id({**row, "method": ""}).strip()}
    elif row["adapter"] is not None:
        setting = {"Adapter": one_line(row["adapter"])}
    return {
        "Plugin": one_line(row["plugin"]),
        **setting,
        "Metric": one_line(row["metric"]),
        "Candidate": one_line(row["run"]),
        "Candidate is": row["word"],
        "Difference [95 %]": difference_text(row),
        "p (Holm)": p_text(row),
        "Images": row["n"],
        "Prompts": row["n_prompts"],
        "Note": row["reason"],
    }


PAGE = Page("Compare", "compare", show, order=1)
