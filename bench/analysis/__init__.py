"""Summarise scores: intervals, differences to the base model, compatibility after the upgrade."""
