"""Plugin: its images under each setting, its manifest entry and its load audit."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from bench.site import SitePlugin, SiteRun
from leaderboard.data import Run, RunTables, current_runs, plugins_of
from leaderboard.escape import literal, one_line
from leaderboard.figures.plugin_facts import audit_of, audit_rows, card_of, source_of
from leaderboard.figures.site_runs import open_site_run
from leaderboard.figures.verdicts import compatibility_of
from leaderboard.ui import Page, choose_plugin, page_title
from leaderboard.ui.fragments import enhance_fragments, run_links, show_fragment, show_links
from leaderboard.ui.numbers import number
from leaderboard.ui.page import show_notes
from leaderboard.ui.selection import choose_part
from leaderboard.views.answers import show_answer
from leaderboard.views.plugin_images import show_extremes, show_grid, show_side_by_side
from leaderboard.web import page_parts

_MAX_AUDIT_ROWS = 500
_FILES = ("badge.svg", "badge.json", "model-card.md", "results.json")
_PARTS: dict[str, Callable[[Run, RunTables, str], None]] = {
    "Images": show_grid,
    "Best and worst": show_extremes,
    "Side by side": show_side_by_side,
}


def show() -> None:
    """Draw the page."""
    show_notes()
    chosen = choose_plugin(_worst_first)
    if chosen is None:
        page_title("Plugin")
        return
    run, tables, plugin = chosen
    found = next((p for p in open_site_run(run).plugins if p.name == plugin), None)
    if found is None:
        _unjudged(tables, plugin)
    else:
        _judged(open_site_run(run), found)
    st.subheader("Every image", anchor=False)
    part = choose_part("Part", [*_PARTS, "Card"], key="part")
    if part == "Card":
        _card(run, plugin)
        _audit(tables, plugin)
    else:
        _PARTS[part](run, tables, plugin)


def _worst_first(run: Run, tables: RunTables) -> list[str]:
    """Return a run's plugins: those that are judged, worst first, then the others."""
    judged = [plugin.name for plugin in open_site_run(run).plugins]
    return [*judged, *(name for name in plugins_of(tables) if name not in set(judged))]


def _judged(run: SiteRun, plugin: SitePlugin) -> None:
    page_title(f"{plugin.name} {plugin.answer.word}")
    parts = page_parts(current_runs())
    show_fragment(
        parts.plugin_head(run, plugin, _FILES, has_crumb=False),
        parts.plugin_pictures(run, plugin),
        parts.plugin_facts(run, plugin),
    )
    show_links("More of this plugin:", run_links(run.key, plugin.name))
    enhance_fragments()


def _unjudged(tables: RunTables, plugin: str) -> None:
    page_title(plugin)
    st.title(literal(plugin), anchor=False)
    show_answer(tables, compatibility_of(tables, plugin))


def _card(run: Run, plugin: str) -> None:
    st.subheader(literal(plugin), anchor=False)
    card = card_of(run, plugin)
    if not card:
        st.info("The manifest has no entry with this name: it may be a stack of plugins.")
        return
    rows = [{"What": title, "Value": one_line(value)} for title, value in card.items()]
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt=f"Manifest entry of {one_line(plugin)}")
    page = source_of(run, plugin)
    if page is not None:
        st.link_button("Open the source", page, icon=":material/open_in_new:")


def _audit(tables: RunTables, plugin: str) -> None:
    st.subheader("Load audit", anchor=False)
    counts = audit_of(tables, plugin)
    if counts is None:
        st.info("This run has no load audit of this plugin.")
        return
    metrics = {
        "rows": counts["n"],
        "applied": counts["n_applied"],
        "missing": counts["n_missing"],
        "unexpected": counts["n_extra"],
        "bad values": counts["n_bad"],
    }
    with st.container(horizontal=True):
        for title, value in metrics.items():
            st.metric(title, f"{int(value or 0):,}", width=140, border=True)
    st.caption(literal(f"Largest error beyond rounding: {number(counts['max_error'])}"))
    only_remarks = st.toggle("Only rows with a remark", key="remarks", bind="query-params")
    rows = audit_rows(tables, plugin, only_remarks=only_remarks, most=_MAX_AUDIT_ROWS)
    st.dataframe(
        pd.DataFrame(rows), hide_index=True, placeholder="", alt="The load audit, module by module"
    )
    if len(rows) == _MAX_AUDIT_ROWS:
        st.caption(literal(f"Only the first {_MAX_AUDIT_ROWS} rows."))


PAGE = Page("One plugin", "plugin", show, order=10, is_listed=False)
