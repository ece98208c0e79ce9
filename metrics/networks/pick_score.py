"""PickScore (Kirstain et al. 2023, arXiv 2305.01569): a CLIP of transformers, scaled cosine."""

from __future__ import annotations

from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from metrics.networks.files import device, pretrained
from metrics.weights import Weights


class PickScoreNetwork:
    """A picture and a prompt to exp(logit_scale) * cosine."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.preprocess: Any = open_clip.image_transform(
            model.config.vision_config.image_size, is_train=False
        )
        # CLIP's byte pairs: the same table that the model's own tokenizer holds
        self.tokenizer = open_clip.SimpleTokenizer(
            context_length=model.config.text_config.max_position_embeddings
        )

    def preference(self, picture: np.ndarray, prompt: str) -> float:
        """Return the score of a uint8 picture [H, W, 3]."""
        x_bchw = self.preprocess(Image.fromarray(picture))[None].to(device())
        tokens = self.tokenizer([prompt]).to(device())
        with torch.inference_mode():
            return float(self.model(input_ids=tokens, pixel_values=x_bchw).logits_per_image)


def load(weights: Weights, variant: str) -> PickScoreNetwork:
    """Load the model from its folder."""
    from transformers import CLIPModel

    weights.path()
    return PickScoreNetwork(pretrained(CLIPModel, weights.folder))
