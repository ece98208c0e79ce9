"""Pages of the leaderboard, one module each; `show` draws the page."""
