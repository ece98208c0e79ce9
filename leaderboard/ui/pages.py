"""The pages of the leaderboard, found by entry points of group `xbench.pages`.

An entry point names a `Page`. Built-in pages and those of other packages are found the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import streamlit as st

from bench.errors import UserError
from bench.registry import installed, load_entry
from leaderboard.escape import literal

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """A page: its title in the navigation, its URL path, and the function that draws it.

    Pages are listed by `order`; the first one is also the start page. Others are
    in the navigation unless they are not `is_listed`: other pages link to them.
    """

    title: str
    path: str
    show: Callable[[], None]
    order: float = 100
    is_listed: bool = True

    def draw(self) -> None:
        """Draw the page; a user error, such as a run that was just removed, becomes one line."""
        try:
            self.show()
        except UserError as error:
            st.error(literal(error), icon=":material/warning:")


@cache
def pages() -> tuple[Page, ...]:
    """Return all installed pages in order; one that is broken is logged and left out."""
    found: list[Page] = []
    for name in installed("pages"):
        try:
            found.append(load_entry("pages", name, contract=Page, takes_part=False))
        except UserError as error:
            _LOG.error("left out: %s", error)
    return tuple(sorted(found, key=lambda page: (page.order, page.path)))
