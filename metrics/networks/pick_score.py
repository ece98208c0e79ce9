"""PickScore (Kirstain et al. 2023, arXiv 2305.01569): a CLIP of transformers, scaled cosine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import open_clip
import torch

from metrics.networks.files import device, preprocessed, pretrained
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

    def preferences(self, rated: Sequence[tuple[np.ndarray, str]]) -> list[float]:
        """Return the scores of uint8 pictures [H, W, 3], each with its prompt."""
        x_bchw = preprocessed([picture for picture, _ in rated], self.preprocess)
        tokens = self.tokenizer([prompt for _, prompt in rated]).to(device())
        with torch.inference_mode():
            of_all = self.model(input_ids=tokens, pixel_values=x_bchw).logits_per_image
        return of_all.diagonal().tolist()


def load(weights: Weights, variant: str) -> PickScoreNetwork:
    """Load the model from its folder."""
    from transformers import CLIPModel

    weights.path()
    return PickScoreNetwork(pretrained(CLIPModel, weights.folder))
