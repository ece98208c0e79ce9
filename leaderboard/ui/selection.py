"""Choices of the reader, stored in the URL: every view is a link.

Each widget is bound to the query parameter of its key, which persists across pages; Streamlit
ignores values that are not among the options.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from leaderboard.escape import one_line


def choose_one(
    label: str,
    options: Sequence[str],
    *,
    key: str,
    default: str | None = None,
    is_labeled: bool = True,
) -> str:
    """Let the reader choose one of at least one options, at first `default` or the first."""
    index = options.index(default) if default in options else 0
    chosen = st.selectbox(
        label,
        options,
        index,
        key=key,
        bind="query-params",
        format_func=one_line,
        label_visibility="visible" if is_labeled else "collapsed",
    )
    return chosen if chosen in options else options[index]


def choose_tags(label: str, options: Sequence[str], *, key: str) -> list[str]:
    """Let the reader choose some of a few options, shown as chips; none at first."""
    return list(
        st.pills(
            label,
            options,
            selection_mode="multi",
            key=key,
            bind="query-params",
            label_visibility="collapsed",
        )
    )


def choose_part(label: str, options: Sequence[str], *, key: str) -> str:
    """Let the reader choose one of a few parts of a page, at first the first."""
    chosen = st.segmented_control(
        label,
        options,
        default=options[0],
        key=key,
        required=True,
        bind="query-params",
        label_visibility="collapsed",
    )
    return chosen or options[0]


def choose_page(n_items: int, *, per_page: int, key: str = "page") -> int:
    """Let the reader choose a page of a long list; return it from 0. Hidden for a single page."""
    n_pages = max(1, -(-n_items // per_page))
    if n_pages == 1:
        return 0
    return min(st.pagination(n_pages, key=key, bind="query-params"), n_pages) - 1
