"""The web leaderboard; reads result files only."""
