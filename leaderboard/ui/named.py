"""Choices shown in plain words; the URL keeps their ids, so that links outlive the words.

Streamlit binds a query parameter to the text that it shows. These choices are synchronized with the
URL here instead: a changed URL (a link, Back) wins over the widget, a changed widget sets the URL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import streamlit as st

from leaderboard.escape import one_line
from leaderboard.ui.address import current_page


def choose_named(
    label: str,
    names: Mapping[str, str],
    *,
    key: str,
    default: str | None = None,
    explanation: str | None = None,
    is_labeled: bool = True,
) -> str:
    """Let the reader choose one of at least one id, shown by its name; at first `default`."""
    first = default if default is not None and default in names else next(iter(names))
    _follow_url(key, [first], names, single=True)
    chosen = st.selectbox(
        label,
        list(names),
        key=key,
        format_func=_shown(names).__getitem__,
        help=explanation,
        label_visibility="visible" if is_labeled else "collapsed",
    )
    _set_url(key, [chosen], [first])
    return chosen


def choose_some_named(
    label: str,
    names: Mapping[str, str],
    *,
    key: str,
    default: Sequence[str] = (),
    explanation: str | None = None,
) -> list[str]:
    """Let the reader choose some ids, shown by their names; at first those of `default`."""
    _follow_url(key, default, names)
    chosen = st.multiselect(
        label,
        list(names),
        key=key,
        format_func=_shown(names).__getitem__,
        help=explanation,
        placeholder="choose some" if default else "all",
    )
    _set_url(key, chosen, default)
    return chosen


def _follow_url(
    key: str, default: Sequence[str], names: Mapping[str, str], *, single: bool = False
) -> None:
    """Store the choice of the URL as the widget's, if the URL or the options have changed.

    The navigation opens a page without a query: there the choice of the page before it is kept.
    """
    seen, url = f"{key} of the URL", st.query_params.get_all(key)
    before, page = st.session_state.get(f"{key} of the page"), current_page()
    st.session_state[f"{key} of the page"] = page
    if before not in (None, page) and not url:
        url = st.session_state.get(seen, [])
    known = [name for name in url if name in names]
    nothing = url == [""] and not single
    held = st.session_state.get(key)
    is_lost = held not in names if single else not set(held or ()) <= set(names)
    if key not in st.session_state or is_lost or st.session_state.get(seen) != url:
        chosen = known or ([] if nothing else list(default))
        st.session_state[key] = chosen[0] if single else chosen
    st.session_state[seen] = url


def _set_url(key: str, chosen: Sequence[str], default: Sequence[str]) -> None:
    """Write a choice into the URL; the default is left out, no choice at all is an empty value."""
    wanted: list[str] = [] if list(chosen) == list(default) else list(chosen) or [""]
    if st.query_params.get_all(key) != wanted:
        if wanted:
            st.query_params[key] = wanted
        else:
            del st.query_params[key]
    st.session_state[f"{key} of the URL"] = wanted


def _shown(names: Mapping[str, str]) -> dict[str, str]:
    """Return the names on one line; equal ones have their id beside them."""
    counts = Counter(names.values())
    return {
        id_: one_line(name if counts[name] == 1 else f"{name} ({id_})")
        for id_, name in names.items()
    }
