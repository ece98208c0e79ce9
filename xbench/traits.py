"""Types of the optional attributes of methods, metrics and families."""

from metrics.base import MetricUnavailableError, Quality
from runners.base import MethodCost, MethodStyle
from runners.families import MapperProblem
from runners.families.traits import FamilyCost, FamilyDetector, PaperMetrics

__all__ = [
    "FamilyCost",
    "FamilyDetector",
    "MapperProblem",
    "MethodCost",
    "MethodStyle",
    "MetricUnavailableError",
    "PaperMetrics",
    "Quality",
]
