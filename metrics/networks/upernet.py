"""Segmentation by UPerNet (Xiao et al. 2018, arXiv 1807.10221) in the 150 classes of ADE20K."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from metrics.networks.annotators import palette
from metrics.networks.dinov2 import imagenet_input
from metrics.networks.files import pretrained
from metrics.weights import Weights


class Segments:
    """Pictures to classes, in the colors that segmentation ControlNets were trained on."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def find(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the color of each pixel's class, uint8 [H, W, 3], of pictures of one size."""
        with torch.inference_mode():
            logits = self.network(pixel_values=imagenet_input(pictures)).logits
        return [palette()[classes] for classes in logits.argmax(dim=1).cpu().numpy()]


def load(weights: Weights, variant: str) -> Segments:
    """Load the network from its folder."""
    from transformers import UperNetForSemanticSegmentation

    weights.path()
    return Segments(pretrained(UperNetForSemanticSegmentation, weights.folder))
