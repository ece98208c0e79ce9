"""Inspect untrusted plugin files without executing them, and without torch."""

from plugins_manifest.inspect.facts import facts
from plugins_manifest.inspect.inspect import Inspection, inspect_file
from plugins_manifest.inspect.judge import why_unusable
from plugins_manifest.inspect.pickle_convert import convert_pickle

__all__ = ["Inspection", "convert_pickle", "facts", "inspect_file", "why_unusable"]
