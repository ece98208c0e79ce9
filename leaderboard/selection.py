"""What a reader has chosen, kept in the URL: every view is a link.

Each widget is bound to a query parameter of its own name; Streamlit ignores values that are not
among the options.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st


def choose_some(label: str, options: Sequence[str], *, key: str) -> list[str]:
    """Some of the options; none chosen means all."""
    chosen = st.multiselect(label, options, key=key, placeholder="all", bind="query-params")
    return list(chosen) or list(options)
