"""Absolute addresses of this site as the browser sees it, also behind a proxy or under a path."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

_PAGE = "path_of_page"


def remember_page(path: str) -> None:
    """Store the path of the current page, "" for the first."""
    st.session_state[_PAGE] = path


def current_page() -> str:
    """Return the path of the current page."""
    return st.session_state.get(_PAGE, "")


def site_address(path: str, **query: str) -> str:
    """Return the absolute address of a path; Streamlit treats relative ones as file names."""
    target = f"{path}?{urlencode(query)}" if query else path
    return f"{site_root(st.context.url, current_page())}/{target}"


def site_root(url: str | None, page: str) -> str:
    """Return the address of the site without the path of the current page."""
    root = (url or "http://localhost").rstrip("/")
    return root.removesuffix(f"/{page}") if page else root
