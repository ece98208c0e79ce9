"""Detectors of conditions, and metrics of how well a condition is found again."""

from metrics.condition.detectors import Detector, by_network
from metrics.condition.maps import MapMetric
from metrics.condition.overlap import ConditionMetric

__all__ = ["ConditionMetric", "Detector", "MapMetric", "by_network"]
