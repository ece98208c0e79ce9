"""Pure transforms from tables to rows and charts."""

from leaderboard.figures.arms import setting_label, settings_of
from leaderboard.figures.standings import method_rows, open_standings, ranked
from leaderboard.figures.tradeoff import front_of, tradeoff_rows

__all__ = [
    "front_of",
    "method_rows",
    "open_standings",
    "ranked",
    "setting_label",
    "settings_of",
    "tradeoff_rows",
]
