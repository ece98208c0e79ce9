"""Gram matrices of VGG features (Gatys et al. 2015, arXiv 1508.06576, eq. 3), without places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from metrics.networks.dinov2 import imagenet_input
from metrics.networks.files import fill, read_tensors
from metrics.resize import clean_resize
from metrics.weights import Weights

SIDE_PX = 256
LAYERS = (3, 8, 15)  # relu1_2, relu2_2, relu3_3


class Gram:
    """Pictures to the upper triangles of their Gram matrices, one unit vector a layer."""

    def __init__(self, features: nn.Sequential) -> None:
        self.features = features

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Return rows [N, 43232] of pictures [H, W, 3]; their dot products average the layers."""
        x = imagenet_input([clean_resize(p, (SIDE_PX, SIDE_PX)) for p in pictures])
        parts = []
        with torch.inference_mode():
            for i, layer in enumerate(self.features):
                x = layer(x)
                if i in LAYERS:
                    parts.append(torch.stack([_triangle(m) for m in x]) / len(LAYERS) ** 0.5)
        return torch.cat(parts, dim=1).cpu().numpy()


def load(weights: Weights, variant: str) -> Gram:
    """Load the convolutions up to the last layer that is used."""
    tensors = {
        key.removeprefix("features."): value
        for key, value in read_tensors(weights.path()).items()
        if key.startswith("features.")
    }
    features = fill(build(), tensors, what=weights.title)
    return Gram(nn.Sequential(*list(features.children())[: LAYERS[-1] + 1]))


def build() -> nn.Sequential:
    """Build VGG-16's convolutions without weights."""
    from torchvision.models import vgg

    return vgg.make_layers(vgg.cfgs["D"], batch_norm=False)


def _triangle(map_chw: torch.Tensor) -> torch.Tensor:
    """Return the unit vector of the channels' inner products, off-diagonal doubled in weight."""
    wide = torch.float32 if map_chw.device.type == "mps" else torch.float64  # MPS has no float64
    rows = map_chw.flatten(1).to(wide)
    gram = rows @ rows.T
    i, j = torch.triu_indices(len(rows), len(rows))
    values = gram[i, j] * torch.where(i == j, 1.0, 2.0**0.5)
    return values / values.norm().clamp_min(1e-12)
