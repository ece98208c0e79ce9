"""Metrics of condition reconstruction and the detectors they compare with."""
