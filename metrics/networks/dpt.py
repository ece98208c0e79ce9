"""Depth by DPT (Ranftl et al. 2021, arXiv 2103.13413), as a ControlNet's condition image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from metrics.networks.files import device, pretrained
from metrics.resize import clean_resize
from metrics.weights import Weights


class Depth:
    """Pictures to inverse depth: near is white."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def find(self, picture: np.ndarray) -> np.ndarray:
        """Return the depth image, uint8 [H, W, 3], scaled from nearest to farthest."""
        height, width = picture.shape[:2]
        side_px = self.network.config.image_size
        x_hwc = clean_resize(picture, (side_px, side_px)) / 127.5 - 1
        x_bchw = torch.from_numpy(x_hwc.transpose(2, 0, 1)[None]).to(device())
        with torch.inference_mode():
            found = self.network(pixel_values=x_bchw).predicted_depth[None]
            depth = interpolate(found, (height, width), mode="bilinear")[0, 0].cpu().numpy()
        low, high = depth.min(), depth.max()
        gray = np.rint((depth - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=-1)


def load(weights: Weights, variant: str) -> Depth:
    """Load the network from its folder."""
    from transformers import DPTForDepthEstimation

    weights.path()
    return Depth(pretrained(DPTForDepthEstimation, weights.folder))
