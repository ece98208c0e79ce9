"""LPIPS with the lpips package's own heads and a backbone from our weights; `variant` is the net.

The package would download backbones; here it builds one with random values, and torchvision's
published tensors take their place (Zhang et al. 2018, arXiv 1801.03924).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from metrics.networks.files import batch_of, fill, read_tensors, ready
from metrics.weights import Weights

VERSION = "0.1"


class LpipsPair:
    """Pairs of pictures of one size to a distance."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def distances(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        """Return distances of pairs of RGB pictures [H, W, 3] in 0..255; 0 for equal ones.

        All pictures have one size.
        """
        a_bchw, b_bchw = (_input([pair[side] for pair in pairs]) for side in (0, 1))
        with torch.inference_mode():
            return self.network(a_bchw, b_bchw).flatten().tolist()


def load(weights: Weights, variant: str) -> LpipsPair:
    """Load the network `variant` (alex or vgg), version 0.1."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, on the package's old way to call it
        network: Any = lpips.LPIPS(net=variant, version=VERSION, pnet_rand=True, verbose=False)
    published = read_tensors(weights.path())
    keys = {key: f"features.{key.partition('.')[2]}" for key in network.net.state_dict()}
    there = {key: published[name] for key, name in keys.items() if name in published}
    fill(network.net, there, what=weights.title)
    return LpipsPair(ready(network))


def _input(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Scale RGB in 0..255 to [N, 3, H, W] in [-1, 1]: the only place where values are scaled."""
    return batch_of(p.astype(np.float32) / 127.5 - 1 for p in pictures)
