"""The glossary: plain names of methods and conditions, and what the words of the pages mean."""

from __future__ import annotations

from collections.abc import Mapping

from bench.analysis.words import MEANINGS, WORDS, method_name
from plugins_manifest.schema.kinds import kinds_where

__all__ = ["function_word", "glossary", "method_name"]

_TERMS: Mapping[str, str] = {
    "Base model": "the old model that the plugin was made for; there it counts as 1 (at home)",
    "New model without plugin": "the upgraded model by itself; it counts as 0, the floor",
    "Native plugin (ceiling)": "a plugin of the same purpose that was trained for the new model: "
    "what one could hope for",
    "SDEdit": "the base model makes an image with the plugin, the new model redraws a part of it",
    "X-Adapter": "as SDEdit, and while the new model redraws, the base model runs beside it and "
    "a trained mapper passes its features on",
    "t0": "how much is redrawn by the new model: 0.1 little, 1 all of it",
    "Keeps": "the share of the plugin's effect that is left: 100 % as on the base model, 0 % as "
    "without the plugin; brackets hold the 95 % interval over prompts",
    "Images like the new model's": "apart from the plugin's own style they are shown to look more "
    "like the new model's own images than the old model's images do",
}
_WITH_CONDITION = frozenset(kinds_where(lambda kind: kind.needs_condition))
_WITH_REFERENCE = frozenset(kinds_where(lambda kind: kind.needs_reference))
_WITH_STYLE = frozenset(kinds_where(lambda kind: kind.changes_style))


def function_word(kind: str) -> str:
    """Return what a number of a plugin's function counts, in plain words."""
    if kind in _WITH_CONDITION:
        return "condition found"
    if kind in _WITH_REFERENCE:
        return "likeness"
    return "style" if kind in _WITH_STYLE else "function"


def glossary() -> list[tuple[str, str]]:
    """Return every term with its meaning: models, methods, numbers, then the verdicts."""
    verdicts = ((word.capitalize(), MEANINGS[word]) for word in WORDS)
    return [*_TERMS.items(), *verdicts]
