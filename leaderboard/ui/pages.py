"""The pages of the leaderboard, found by entry points of group `xbench.pages`.

An entry point names a `Page`. Built-in pages and those of other packages are found the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

import streamlit as st

from bench.errors import UserError
from leaderboard.escape import literal

GROUP = "xbench.pages"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """A page: its title in the navigation, its URL path, and the function that draws it.

    Pages are listed by `order`; the first one is also the start page.
    """

    title: str
    path: str
    show: Callable[[], None]
    order: float = 100

    def draw(self) -> None:
        """Draw the page; a user error, such as a run that was just removed, becomes one line."""
        try:
            self.show()
        except UserError as error:
            st.error(literal(error), icon=":material/warning:")


@cache
def pages() -> tuple[Page, ...]:
    """Return all installed pages in order; one that cannot be imported is logged and left out."""
    found = []
    for point in entry_points(group=GROUP):
        try:
            found.append(point.load())
        except (ImportError, AttributeError):
            _LOG.exception("page %r (%s) cannot be imported", point.name, point.value)
    return tuple(sorted(found, key=lambda page: (page.order, page.path)))
