"""Intervals, tests and decisions over prompts."""
