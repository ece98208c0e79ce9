"""Runs in progress: how far they are, the time left and the newest pictures, redrawn alone."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import streamlit as st

from bench.analysis.words import label_of
from bench.errors import UserError
from leaderboard.data import Run
from leaderboard.data.progress import Progress, run_progress
from leaderboard.data.run_files import FolderFiles
from leaderboard.escape import literal, one_line
from leaderboard.web.pictures import inline_picture

_REFRESH_SECONDS = 3.0
_MAX_SHOWN = 3
_CELL_PX = 96


def show_progress(runs: Iterable[Run], *, only_running: bool = False) -> None:
    """Show the unfinished runs of this machine; those at work are redrawn until they end.

    A run that ends redraws the whole page, which then has its results.
    """
    unfinished = (run for run in runs if run.facts and not run.is_finished and run.store is None)
    for run in islice(unfinished, _MAX_SHOWN):
        try:
            is_running = run_progress(run.folder).is_running
        except UserError as error:
            st.warning(literal(f"{run.key}: {error}"), icon=":material/warning:")
            continue
        if only_running and not is_running:
            continue
        every = _REFRESH_SECONDS if is_running else None
        st.fragment(_show_run, run_every=every)(run.key, run.folder, was_running=is_running)


def _show_run(key: str, folder: Path, *, was_running: bool) -> None:
    try:
        found = run_progress(folder)
    except UserError as error:  # it was removed
        st.warning(literal(f"{key}: {error}"), icon=":material/warning:")
        return
    if was_running and not found.is_running:
        st.rerun()
    with st.container(border=True, gap="small"):
        icon = ":material/pending:" if found.is_running else ":material/stop_circle:"
        st.markdown(f"{icon} **{literal(key)}**: {literal(found.sentence)}")
        st.progress(found.share)
        if found.is_running:
            _show_newest(found, folder)
            st.caption("Without verdicts and ranks until it is finished.")
        elif found.command:
            st.code(one_line(found.command), language=None, wrap_lines=True)


def _show_newest(found: Progress, folder: Path) -> None:
    with st.container(horizontal=True, gap="small"):
        for row in found.newest:
            picture = inline_picture(FolderFiles(folder), row["image"])
            if picture is None:
                continue
            name = f"{row['plugin'] or 'without plugin'}, {label_of(row)}"
            with st.container(width=_CELL_PX, gap=None):
                alt = one_line(f"{name}: {row['base_prompt'] or ''}")
                st.image(picture, width="stretch", alt=alt)
                st.caption(literal(name))
