"""Widgets shared by the pages, and the list of pages."""

from leaderboard.ui.address import site_address
from leaderboard.ui.numbers import interval
from leaderboard.ui.page import choose_plugin, choose_run, heading, page_title
from leaderboard.ui.pages import Page, pages

__all__ = [
    "Page",
    "choose_plugin",
    "choose_run",
    "heading",
    "interval",
    "page_title",
    "pages",
    "site_address",
]
