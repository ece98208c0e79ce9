"""Image and text encoder of an open_clip model; `variant` is open_clip's name of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import open_clip
import torch

from metrics.networks.files import device, preprocessed, ready
from metrics.weights import Weights


class OpenClipPair:
    """Pictures and texts to rows of one space; a long text is cut and keeps its end token."""

    def __init__(self, model: Any, preprocess: Any, tokenizer: Any) -> None:
        self.model, self.preprocess, self.tokenizer = model, preprocess, tokenizer

    def encode(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Return features [N, D] of uint8 pictures [H, W, 3]."""
        x_bchw = preprocessed(pictures, self.preprocess)
        with torch.inference_mode():
            return self.model.encode_image(x_bchw).float().cpu().numpy()

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return features [N, D] of texts."""
        with torch.inference_mode():
            rows = self.model.encode_text(self.tokenizer(list(texts)).to(device()))
        return rows.float().cpu().numpy()


def load(weights: Weights, variant: str) -> OpenClipPair:
    """Load the pair, from safetensors or with `weights_only`."""
    model, _, preprocess = open_clip.create_model_and_transforms(
        variant, pretrained=str(weights.path()), weights_only=True
    )
    return OpenClipPair(ready(model), preprocess, open_clip.get_tokenizer(variant))
