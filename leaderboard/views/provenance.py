"""Provenance: recorded facts of a run, and the commands that reproduce it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st
import yaml

from leaderboard.escape import one_line
from leaderboard.figures.provenance import commands_of, facts_of, group_of
from leaderboard.ui import Page, choose_run, heading
from leaderboard.ui.page import show_problems

_MAX_SHOWN = 50_000
_FACTS_HELP = """Family: the models, old and new, and how they are loaded.

Manifest's fingerprint: equal for runs of equal plugins, prompts and settings.

Adapter's SHA-256: the weights of X-Adapter.

Plan's key: equal for runs of the same images.

Rendered as: what else changes pixels, such as device and number format."""
_GROUPS = {"weights": "Weights", "versions": "Versions", "device": "Device", "git": "Code"}


def show() -> None:
    """Draw the page."""
    heading(
        "Where do the numbers come from?",
        "The command, versions and weights of a run, and how to reproduce it.",
    )
    found = choose_run()
    if found is None:
        return
    run, tables = found
    show_problems(tables.problems)
    commands = commands_of(run)
    if commands:
        st.subheader("Reproduce it", anchor=False)
        st.code("\n".join(one_line(line) for line in commands), language=None, wrap_lines=True)
    st.subheader("The run", anchor=False, help=_FACTS_HELP)
    _table(facts_of(run), "Facts of the run")
    columns = st.columns(2)
    for i, (name, title) in enumerate(_GROUPS.items()):
        group = group_of(run, name)
        if group:
            with columns[i % 2]:
                st.subheader(title, anchor=False)
                _table(group, title)
    st.subheader("Manifest", anchor=False)
    text = yaml.safe_dump(dict(run.manifest), sort_keys=False, allow_unicode=True)
    st.download_button("Download the manifest", text, "manifest.yaml", "application/yaml")
    with st.expander("Show the manifest"):
        st.code(text[:_MAX_SHOWN], language="yaml")
        if len(text) > _MAX_SHOWN:
            st.caption(f"Only the first {_MAX_SHOWN:,} characters: the download has all.")


def _table(facts: Mapping[str, str], alt: str) -> None:
    rows = [{"What": one_line(name), "Value": one_line(value)} for name, value in facts.items()]
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt=alt)


PAGE = Page("Provenance", "provenance", show, order=13, is_listed=False)
