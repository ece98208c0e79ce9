"""Publish runs to a store that the leaderboard reads from anywhere."""
