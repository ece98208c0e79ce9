"""ImageReward (Xu et al. 2023, arXiv 2304.05977): BLIP reads picture and prompt, a head rates.

The published tensors carry BLIP's own names; transformers' BLIP takes them under its names. Sizes
are read off the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor, nn

from metrics.networks.files import device, fill, preprocessed, read_tensors
from metrics.weights import Weights

MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the authors' training set
MAX_TOKENS = 35
_HEAD_PX = 64  # width of an attention head in BLIP's ViT and BERT
_VISION_NAMES = (
    (r"^blocks\.", "encoder.layers."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
    (r"\.attn\.", ".self_attn."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"^norm\.", "post_layernorm."),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^cls_token$", "embeddings.class_embedding"),
)


class RewardNetwork:
    """A picture and a prompt to (reward - mean) / standard deviation."""

    def __init__(self, vision: Any, text: Any, head: nn.Module, *, vocabulary: Path) -> None:
        from tokenizers import BertWordPieceTokenizer

        self.vision, self.text, self.head = vision, text, head
        self.preprocess: Any = open_clip.image_transform(vision.config.image_size, is_train=False)
        self.tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def preferences(self, rated: Sequence[tuple[np.ndarray, str]]) -> list[float]:
        """Return the rewards of uint8 pictures [H, W, 3], each with its prompt.

        Prompts are read one by one, without padding (a mask would undo it).
        """
        x_bchw = preprocessed([picture for picture, _ in rated], self.preprocess)
        with torch.inference_mode():
            seen_bld = self.vision(pixel_values=x_bchw).last_hidden_state
        prompts = [prompt for _, prompt in rated]
        return [self._reward(seen[None], p) for seen, p in zip(seen_bld, prompts, strict=True)]

    def _reward(self, seen: Tensor, prompt: str) -> float:
        """Return the reward of a picture, as its vision states [1, L, D], under a prompt."""
        tokens = torch.tensor([self.tokenizer.encode(prompt).ids], device=device())
        with torch.inference_mode():
            read = self.text(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                encoder_hidden_states=seen,
                encoder_attention_mask=torch.ones(seen.shape[:2], device=device()),
            ).last_hidden_state
            return (float(self.head(read[:, 0])) - MEAN) / STD


def load(weights: Weights, variant: str) -> RewardNetwork:
    """Load BLIP and head with every tensor of the parts that rate."""
    published = read_tensors(weights.path())
    vision_tensors = {vision_name(k): v for k, v in _part(published, "blip.visual_encoder.")}
    text_tensors = dict(_part(published, "blip.text_encoder."))
    head_tensors = dict(_part(published, "mlp.layers."))
    vision, text = sized_for(vision_tensors, text_tensors)
    return RewardNetwork(
        fill(vision, vision_tensors, what=weights.title),
        fill(text, text_tensors, what=weights.title),
        fill(build_head(text.config.hidden_size), head_tensors, what=weights.title),
        vocabulary=weights.path("vocab.txt"),
    )


def vision_name(published: str) -> str:
    """Return transformers' name of a tensor of BLIP's ViT."""
    for pattern, name in _VISION_NAMES:
        published = re.sub(pattern, name, published)
    return published


def sized_for(vision: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> tuple[Any, Any]:
    """Build vision and text network without weights, with the sizes of the tensors."""
    from transformers import BlipTextConfig, BlipVisionConfig
    from transformers.models.blip.modeling_blip import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    patches = vision["embeddings.patch_embedding.weight"]
    n_patches = vision["embeddings.position_embedding"].shape[1] - 1
    vision_config = BlipVisionConfig(
        hidden_size=patches.shape[0],
        intermediate_size=vision["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=_n_layers(vision, "encoder.layers."),
        num_attention_heads=patches.shape[0] // _HEAD_PX,
        image_size=round(n_patches**0.5) * patches.shape[-1],
        patch_size=patches.shape[-1],
        layer_norm_eps=1e-6,
    )
    words = text["embeddings.word_embeddings.weight"]
    text_config = BlipTextConfig(
        vocab_size=words.shape[0],
        hidden_size=words.shape[1],
        encoder_hidden_size=patches.shape[0],
        intermediate_size=text["encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=_n_layers(text, "encoder.layer."),
        num_attention_heads=words.shape[1] // _HEAD_PX,
        max_position_embeddings=text["embeddings.position_embeddings.weight"].shape[0],
    )
    return BlipVisionModel(vision_config), BlipTextModel(text_config, add_pooling_layer=False)


def build_head(width: int) -> nn.Sequential:
    """Build the rating head without weights; dropout keeps the published numbering."""
    sizes = (width, 1024, 128, 64, 16, 1)
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(n_in, n_out))
        if i < 3:
            layers.append(nn.Dropout())
    return nn.Sequential(*layers)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> list[tuple[str, Tensor]]:
    """Return tensors below a prefix; position indices are not weights."""
    return [
        (key.removeprefix(prefix), value)
        for key, value in tensors.items()
        if key.startswith(prefix) and not key.endswith("position_ids")
    ]


def _n_layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in tensors if key.startswith(prefix)})
