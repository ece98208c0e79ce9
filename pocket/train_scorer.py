"""Trains the pocket scorer with open_clip's contrastive loss on all styles, sharp and blurry."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from torch import Tensor

from pocket.data import PictureSet
from pocket.fit import LossFunction
from pocket.scenes import STYLES, Style, caption, render, scene_at
from pocket.scorer import SIZE_PX, preprocess
from pocket.train_unet import tokenize

BLURRY_SHARE = 0.35
NOISE = 0.05
N_IMAGES = 8_000
SEED = 15


def draw_scorer_set() -> PictureSet:
    """8,000 scenes, a quarter in each style, with plain captions."""
    styles: list[Style] = [STYLES[i % len(STYLES)] for i in range(N_IMAGES)]
    scenes = [scene_at(SEED, i) for i in range(N_IMAGES)]
    images = [render(s, style, SIZE_PX) for s, style in zip(scenes, styles, strict=True)]
    return PictureSet(np.stack(images), [caption(s) for s in scenes], styles)


def scorer_loss(model: CLIP, pictures: PictureSet) -> LossFunction:
    """Contrastive loss; captions name the style and the sharpness half of the time each."""
    contrast = ClipLoss()

    def loss_at(batch_size: int, generator: torch.Generator) -> Tensor:
        index = torch.randint(len(pictures.captions), (batch_size,), generator=generator).tolist()
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        blurry = rng.random(batch_size) < BLURRY_SHARE
        images = [_seen(pictures.images[i], bad) for i, bad in zip(index, blurry, strict=True)]
        texts = [_words(pictures, i, bad, rng) for i, bad in zip(index, blurry, strict=True)]
        x = preprocess(images)
        x = x + NOISE * rng.random() * torch.randn(x.shape, generator=generator)
        image = F.normalize(model.encode_image(x), dim=-1)
        text = F.normalize(model.encode_text(tokenize(texts)), dim=-1)
        return contrast(image, text, model.logit_scale.exp().clamp(max=100.0))

    return loss_at


@torch.no_grad()
def refresh_statistics(model: CLIP, pictures: PictureSet, *, n_batches: int = 20) -> None:
    """Recompute the batch norms' running statistics for the averaged weights."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    for i in range(n_batches):
        images = [_seen(x, j % 3 == 0) for j, x in enumerate(pictures.images[i * 64 : i * 64 + 64])]
        model.encode_image(preprocess(images))
    model.eval()


def _seen(image: np.ndarray, blurry: bool) -> np.ndarray:
    """The picture, or what is left of it after 64 px."""
    if not blurry:
        return image
    small = cv2.resize(image, (SIZE_PX // 2, SIZE_PX // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC)


def _words(pictures: PictureSet, i: int, blurry: bool, rng: np.random.Generator) -> str:
    text = pictures.captions[i]
    if rng.random() < 0.5:
        text += f" {pictures.styles[i]} drawing"
    if rng.random() < 0.5:
        text += " blurry" if blurry else " sharp"
    return text
