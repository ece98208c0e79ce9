"""Summarize scores: intervals, differences to the base model, compatibility after the upgrade."""

from bench.analysis.compatibility import write_compatibility
from bench.analysis.summary import Arm, Scores, arm_of, arm_order, read_run_scores, summarise

__all__ = [
    "Arm",
    "Scores",
    "arm_of",
    "arm_order",
    "read_run_scores",
    "summarise",
    "write_compatibility",
]
