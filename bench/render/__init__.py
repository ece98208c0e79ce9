"""Render the trials of a plan: cached, resumable, interruptible."""
