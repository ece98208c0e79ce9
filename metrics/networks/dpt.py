"""Depth by DPT (Ranftl et al. 2021, arXiv 2103.13413), as a ControlNet's condition image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from metrics.networks.files import batch_of, pretrained
from metrics.resize import clean_resize
from metrics.weights import Weights


class Depth:
    """Pictures to inverse depth: near is white."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def find(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return depth images, uint8 [H, W, 3], each scaled from nearest to farthest."""
        side_px = self.network.config.image_size
        x_bchw = batch_of(clean_resize(p, (side_px, side_px)) / 127.5 - 1 for p in pictures)
        with torch.inference_mode():
            found = self.network(pixel_values=x_bchw).predicted_depth
        return [_image(d, p.shape[:2]) for d, p in zip(found, pictures, strict=True)]


def _image(found: torch.Tensor, size: tuple[int, ...]) -> np.ndarray:
    """Return a map [h, w] as a gray image [H, W, 3] of a size, stretched to 0..255."""
    with torch.inference_mode():
        depth = interpolate(found[None, None], size, mode="bilinear")[0, 0].cpu().numpy()
    low, high = depth.min(), depth.max()
    gray = np.rint((depth - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)


def load(weights: Weights, variant: str) -> Depth:
    """Load the network from its folder."""
    from transformers import DPTForDepthEstimation

    weights.path()
    return Depth(pretrained(DPTForDepthEstimation, weights.folder))
