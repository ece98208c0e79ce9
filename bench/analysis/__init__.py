"""Summarize scores: intervals, differences to the base model, compatibility after the upgrade."""

from typing import TYPE_CHECKING

from plugins_manifest.lazy import lazy_names

if TYPE_CHECKING:
    from bench.analysis.compatibility import write_compatibility as write_compatibility
    from bench.analysis.summary import Arm as Arm
    from bench.analysis.summary import Scores as Scores
    from bench.analysis.summary import arm_of as arm_of
    from bench.analysis.summary import arm_order as arm_order
    from bench.analysis.summary import read_run_scores as read_run_scores
    from bench.analysis.summary import summarise as summarise

__all__ = [
    "Arm",
    "Scores",
    "arm_of",
    "arm_order",
    "read_run_scores",
    "summarise",
    "write_compatibility",
]
__getattr__ = lazy_names(
    __name__,
    {
        "Arm": "bench.analysis.summary",
        "Scores": "bench.analysis.summary",
        "arm_of": "bench.analysis.summary",
        "arm_order": "bench.analysis.summary",
        "read_run_scores": "bench.analysis.summary",
        "summarise": "bench.analysis.summary",
        "write_compatibility": "bench.analysis.compatibility",
    },
)
