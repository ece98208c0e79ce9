"""Contrastive style descriptors (Somepalli et al. 2024, arXiv 2404.01292): CLIP with a style head.

The sizes are read off the tensors. Every tensor has its place: a head that silently kept its
initial values would still give plausible cosines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn

from metrics.networks.files import fill, preprocessed, read_tensors
from metrics.weights import Weights


class StyleNetwork(nn.Module):
    """CLIP's image tower without its projection, then a linear head for style; unit rows."""

    def __init__(
        self, *, width: int, layers: int, patch_px: int, image_px: int, n_style: int
    ) -> None:
        super().__init__()
        self.backbone = VisionTransformer(
            image_size=image_px,
            patch_size=patch_px,
            width=width,
            layers=layers,
            heads=width // 64,
            mlp_ratio=4.0,
            output_dim=n_style,
            act_layer=QuickGELU,
        )
        self.backbone.proj = None
        self.last_layer_style = nn.Parameter(torch.zeros(width, n_style))
        self.last_layer_content = nn.Parameter(torch.zeros(width, n_style))

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return style rows [B, n_style]."""
        return nn.functional.normalize(self.backbone(x_bchw) @ self.last_layer_style, dim=1)


class Style:
    """Pictures to style rows."""

    def __init__(self, network: nn.Module, preprocess: Any) -> None:
        self.network, self.preprocess = network, preprocess

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Return unit rows [N, D] of uint8 pictures [H, W, 3]."""
        x_bchw = preprocessed(pictures, self.preprocess)
        with torch.inference_mode():
            return self.network(x_bchw).cpu().numpy()


def load(weights: Weights, variant: str) -> Style:
    """Load the network with every one of its tensors."""
    tensors = read_tensors(weights.path())
    network = fill(sized_for(tensors), tensors, what=weights.title)
    image_px = _image_px(tensors)
    return Style(network, open_clip.image_transform(image_px, is_train=False))


def sized_for(tensors: Mapping[str, Tensor]) -> StyleNetwork:
    """Build a network without weights, with the sizes of the tensors."""
    conv, style = tensors["backbone.conv1.weight"], tensors["last_layer_style"]
    layers = {key.split(".")[3] for key in tensors if key.startswith("backbone.transformer.")}
    return StyleNetwork(
        width=conv.shape[0],
        layers=len(layers),
        patch_px=conv.shape[-1],
        image_px=_image_px(tensors),
        n_style=style.shape[1],
    )


def _image_px(tensors: Mapping[str, Tensor]) -> int:
    n_patches = tensors["backbone.positional_embedding"].shape[0] - 1
    return round(n_patches**0.5) * tensors["backbone.conv1.weight"].shape[-1]
