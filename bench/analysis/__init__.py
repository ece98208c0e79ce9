"""Summarize scores: intervals, differences to the base model, compatibility after the upgrade."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.analysis.compatibility import write_compatibility
    from bench.analysis.measures import function_metrics
    from bench.analysis.summary import (
        Arm,
        Scores,
        arm_order,
        read_run_scores,
        summarise,
    )
    from bench.analysis.words import Answer, answers, run_sentence

__all__ = [
    "Answer",
    "Arm",
    "Scores",
    "answers",
    "arm_order",
    "function_metrics",
    "read_run_scores",
    "run_sentence",
    "summarise",
    "write_compatibility",
]
_HOMES = {
    "compatibility": ["write_compatibility"],
    "measures": ["function_metrics"],
    "summary": ["Arm", "Scores", "arm_of", "arm_order", "read_run_scores", "summarise"],
    "words": ["Answer", "answers", "run_sentence"],
}
__getattr__ = lazy_names(
    __name__, {name: f"{__name__}.{module}" for module, names in _HOMES.items() for name in names}
)
