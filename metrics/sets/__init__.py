"""Distances between sets of images."""

from metrics.sets.formulas import (
    cross_prompt_kernel_distance,
    frechet_distance,
    kernel_distance,
)
from metrics.sets.reference_distance import SetDistance
from metrics.sets.reference_set import Reference, ShippedFeatures, UpgradedImages
from metrics.sets.run_distance import RunDistance

__all__ = [
    "Reference",
    "RunDistance",
    "SetDistance",
    "ShippedFeatures",
    "UpgradedImages",
    "cross_prompt_kernel_distance",
    "frechet_distance",
    "kernel_distance",
]
