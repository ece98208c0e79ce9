"""Addresses on this site as the reader's browser knows it: behind a proxy, under a path."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

_PAGE = "path_of_page"


def tell_page(path: str) -> None:
    """Remember the path of the page that is shown, "" for the first."""
    st.session_state[_PAGE] = path


def site_address(path: str, **query: str) -> str:
    """The absolute address of a path of this site; Streamlit takes others for names of files."""
    told = f"{path}?{urlencode(query)}" if query else path
    return f"{site_root(st.context.url, st.session_state.get(_PAGE, ''))}/{told}"


def site_root(url: str | None, page: str) -> str:
    """The site's own address, without the page that is shown."""
    root = (url or "http://localhost").rstrip("/")
    return root.removesuffix(f"/{page}") if page else root
