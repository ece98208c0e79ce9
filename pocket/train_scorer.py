"""Train the pocket scorer with open_clip's contrastive loss on all styles, sharp and blurry.

Half of the batches have different scenes with plain captions and train content. The other half have
each scene in all four styles, sharp and blurry, with captions that name both: hard negatives,
without which the embedding ignores style and sharpness.
"""

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
N_LOOKS = 2 * len(STYLES)
NOISE = 0.05
N_IMAGES = 8_000
SEED = 15


def draw_scorer_set() -> PictureSet:
    """Draw 2,000 scenes in each of the four styles, one after the other, with plain captions."""
    styles: list[Style] = [STYLES[i % len(STYLES)] for i in range(N_IMAGES)]
    scenes = [scene_at(SEED, i // len(STYLES)) for i in range(N_IMAGES)]
    images = [render(s, style, SIZE_PX) for s, style in zip(scenes, styles, strict=True)]
    return PictureSet(np.stack(images), [caption(s) for s in scenes], styles)


def scorer_loss(model: CLIP, pictures: PictureSet) -> LossFunction:
    """Return the contrastive loss over a random choice of content and look batches."""
    contrast = ClipLoss()

    def loss_at(batch_size: int, generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        names_looks = rng.random() < 0.5
        choose = _look_batch if names_looks else _content_batch
        index, blurry = choose(len(pictures.captions), batch_size, rng)
        images = [_seen(pictures.images[i], bad) for i, bad in zip(index, blurry, strict=True)]
        texts = [
            pictures.captions[i] + (_look(pictures.styles[i], bad) if names_looks else "")
            for i, bad in zip(index, blurry, strict=True)
        ]
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
    """Return the picture, if `blurry` reduced to 64 px and enlarged again."""
    if not blurry:
        return image
    small = cv2.resize(image, (SIZE_PX // 2, SIZE_PX // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC)


def _content_batch(n: int, size: int, rng: np.random.Generator) -> tuple[list[int], list[bool]]:
    """Choose random pictures, each in one look."""
    return rng.integers(n, size=size).tolist(), (rng.random(size) < BLURRY_SHARE).tolist()


def _look_batch(n: int, size: int, rng: np.random.Generator) -> tuple[list[int], list[bool]]:
    """Choose a few scenes, each in all styles, sharp and blurry."""
    scenes = rng.integers(n // len(STYLES), size=size // N_LOOKS)
    index = [int(s) * len(STYLES) + k for s in scenes for k in range(len(STYLES))]
    return index * 2, [False] * len(index) + [True] * len(index)


def _look(style: Style, blurry: bool) -> str:
    return f" {style} drawing {'blurry' if blurry else 'sharp'}"
