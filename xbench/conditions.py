"""What a detector of condition images is made of, for group `xbench.detectors`."""

from metrics.condition import Detector, by_network

__all__ = ["Detector", "by_network"]
