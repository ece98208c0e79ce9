"""Types of the optional attributes of methods, metrics and families."""

from metrics.base import MetricUnavailableError, Quality
from runners.base import MethodCost, MethodStyle
from runners.families import MapperProblem
from runners.families.traits import FamilyCost, FamilyDetector, PaperMetrics
from runners.protocols import Knobs

__all__ = [
    "FamilyCost",
    "FamilyDetector",
    "Knobs",
    "MapperProblem",
    "MethodCost",
    "MethodStyle",
    "MetricUnavailableError",
    "PaperMetrics",
    "Quality",
]
