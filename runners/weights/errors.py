"""Errors of plugin weights: what does not fit, and where."""

from __future__ import annotations


class PluginWeightsError(ValueError):
    """Plugin weights that are incomplete, of another format, or made for another model."""
