"""The Inception-v3 of Frechet distances, as clean-fid feeds it (Parmar et al., arXiv 2104.11222).

clean-fid's `clean` mode runs a TorchScript file, which is code; here the same network is built from
its `inception_pytorch` blocks, takes pytorch-fid's port of the same weights as tensors, and gets
the same input: 299 px, (x - 128) / 128.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from metrics.networks.files import batch_of, fill, read_tensors
from metrics.resize import clean_resize
from metrics.weights import Weights

SIDE_PX = 299
_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1")
_MIDDLE = ("Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2")
_MIXED = tuple(
    f"Mixed_{n}" for n in ("5b", "5c", "5d", *(f"6{c}" for c in "abcde"), "7a", "7b", "7c")
)


class Inception:
    """Pictures to the 2048 averages before the classifier."""

    def __init__(self, network: nn.Module) -> None:
        layers = [network.get_submodule(name) for name in (*_STEM, *_MIDDLE, *_MIXED)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Return features [N, 2048] of uint8 pictures [H, W, 3]."""
        x_bchw = batch_of((clean_resize(p, (SIDE_PX, SIDE_PX)) - 128) / 128 for p in pictures)
        with torch.inference_mode():
            return self.layers(x_bchw).cpu().numpy()


def load(weights: Weights, variant: str) -> Inception:
    """Load the network with its published weights, classifier included."""
    return Inception(fill(build(), read_tensors(weights.path()), what=weights.title))


def build() -> nn.Module:
    """Build torchvision's network with clean-fid's blocks, without weights."""
    from cleanfid import inception_pytorch as blocks
    from torchvision.models import inception_v3

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on initial weights, which are replaced
        network = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    for name, channels in (("5b", 32), ("5c", 64), ("5d", 64)):
        in_channels = {"5b": 192, "5c": 256, "5d": 288}[name]
        setattr(network, f"Mixed_{name}", blocks.FIDInceptionA(in_channels, channels))
    for name, channels in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        setattr(network, f"Mixed_{name}", blocks.FIDInceptionC(768, channels))
    network.Mixed_7b = blocks.FIDInceptionE_1(1280)
    network.Mixed_7c = blocks.FIDInceptionE_2(2048)
    return network
