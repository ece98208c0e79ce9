"""Widgets shared by the pages, and the list of pages."""

from leaderboard.ui.address import site_address
from leaderboard.ui.numbers import interval
from leaderboard.ui.page import choose_plugin, choose_run, heading
from leaderboard.ui.pages import Page, pages

__all__ = ["Page", "choose_plugin", "choose_run", "heading", "interval", "pages", "site_address"]
