"""The first page: the answer of one run in a sentence, its plugins as cards, and its matrix."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from bench.analysis.words import WORDS
from bench.site import Parts, SitePlugin, SiteRun
from leaderboard.data import current_runs
from leaderboard.escape import literal
from leaderboard.figures.site_runs import open_site_run, read_typical
from leaderboard.figures.verdicts import EARLIER, is_earlier
from leaderboard.ui import choose_run
from leaderboard.ui.fragments import enhance_fragments, run_links, show_fragment, show_links
from leaderboard.ui.page import NO_RUNS, show_notes, show_problems
from leaderboard.ui.selection import choose_page, choose_tags
from leaderboard.views.live import show_progress
from leaderboard.web import page_parts

PER_PAGE = 24


def show_first_page() -> str | None:
    """Draw bar, sentence, cards and matrix of the chosen run; return its key, None without runs."""
    show_notes()
    runs = current_runs()
    if not runs:
        st.info(NO_RUNS)
        return None
    with st.container(key="bar", horizontal=True, vertical_alignment="center"):
        wanted = st.text_input(
            "Search",
            key="search",
            bind="query-params",
            placeholder="Search plugin, file, sha256",
            label_visibility="collapsed",
        )
        found = choose_run(runs=runs, is_labeled=False)
    if found is None:
        return None
    run, tables = found
    key = run.key
    shown = open_site_run(run)
    show_progress((other for other in runs.values() if other.key != key), only_running=True)
    show_problems(tables.problems)
    parts = page_parts(runs)
    show_fragment(parts.run_head(shown, level=1))
    if not shown.is_finished:
        show_progress([run])
    elif is_earlier(tables):
        st.info(f"These tables were {EARLIER}.", icon=":material/history:")
    elif not shown.plugins:
        st.info("Nothing to judge: this run has no method that keeps a plugin.")
    else:
        _plugins(shown, parts, wanted or "")
    show_links("More of this run:", run_links(key))
    enhance_fragments()
    return key


def _plugins(found: SiteRun, parts: Parts, wanted: str) -> None:
    plugins = _matching(found.plugins, wanted, _choose_words(found.plugins))
    if not plugins:
        st.info("No plugin matches.")
        return
    page = choose_page(len(plugins), per_page=PER_PAGE, key="cards")
    visible = plugins[page * PER_PAGE : (page + 1) * PER_PAGE]
    read_typical(visible)
    show_fragment(parts.legend(found), parts.cards(found, visible, level=2, eager=True))
    show_fragment("<h2>Plugins by methods</h2>", parts.matrix(found, visible))
    if len(visible) < len(plugins):
        first = page * PER_PAGE + 1
        st.caption(
            literal(f"Plugins {first} to {first + len(visible) - 1} of {len(plugins)}, worst first")
        )
    show_fragment(parts.run_files(found))


def _choose_words(plugins: Sequence[SitePlugin]) -> set[str]:
    """Let the reader choose verdicts; an empty choice means all."""
    used = {plugin.answer.word for plugin in plugins}
    words = {word.capitalize(): word for word in WORDS if word in used}
    if len(words) < 2:
        return set()
    return {words[name] for name in choose_tags("Verdicts", list(words), key="verdicts")}


def _matching(plugins: Sequence[SitePlugin], wanted: str, words: set[str]) -> list[SitePlugin]:
    text = wanted.strip().lower()
    return [
        plugin
        for plugin in plugins
        if (not words or plugin.answer.word in words) and text in plugin.search_text.lower()
    ]
