"""DINOv2's class token, as in FD-DINOv2 (Stein et al. 2023, arXiv 2306.04675)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from metrics.networks.files import batch_of, pretrained
from metrics.resize import clean_resize
from metrics.weights import Weights

SIDE_PX = 224
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ClassToken:
    """Pictures to the class token after the last norm."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Return features [N, D] of uint8 pictures [H, W, 3]."""
        x_bchw = imagenet_input([clean_resize(p, (SIDE_PX, SIDE_PX)) for p in pictures])
        with torch.inference_mode():
            return self.network(pixel_values=x_bchw).last_hidden_state[:, 0].cpu().numpy()


def load(weights: Weights, variant: str) -> ClassToken:
    """Load the network from its folder."""
    from transformers import Dinov2Model

    weights.path()
    return ClassToken(pretrained(Dinov2Model, weights.folder))


def imagenet_input(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Return RGB [H, W, 3] in 0..255 as [N, 3, H, W], normalized by ImageNet's mean and std.

    The pictures have one size.
    """
    return batch_of((p.astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD for p in pictures)
