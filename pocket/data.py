"""Training sets of the pocket world: scenes of fixed seeds, cached as uint8 arrays."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pocket.cached import Arrays, cached_arrays
from pocket.scenes import Style, caption, downscale, render, scene_at

STYLE_WORD_SHARE = 0.25


@dataclass(frozen=True)
class SetRecipe:
    """Recipe of a training set: the share of each style, the picture size, the scene seed."""

    name: str
    n_images: int
    size_px: int
    seed: int
    styles: tuple[tuple[Style, float], ...]
    style_words: float = 0.0  # share of the styled pictures whose caption names the style


BASE_SET = SetRecipe(
    "base",
    16_000,
    64,
    11,
    (("flat", 0.64), ("shaded", 0.12), ("outline", 0.12), ("hatched", 0.12)),
)
NAMED_BASE_SET = replace(BASE_SET, style_words=1.0)  # the same pictures, styles named
UPGRADED_SET = SetRecipe(
    "upgraded",
    12_000,
    128,
    12,
    (("shaded", 0.76), ("outline", 0.12), ("hatched", 0.12)),
    STYLE_WORD_SHARE,
)
OUTLINE_SET = SetRecipe("outline", 1_500, 64, 13, (("outline", 1.0),), 1.0)
HATCHED_SET = SetRecipe("hatched", 1_500, 64, 14, (("hatched", 1.0),), 1.0)
UPGRADED_OUTLINE_SET = SetRecipe("upgraded-outline", 1_500, 128, 16, (("outline", 1.0),), 1.0)
UPGRADED_HATCHED_SET = SetRecipe("upgraded-hatched", 1_500, 128, 17, (("hatched", 1.0),), 1.0)
# of SD 2.1's kind of model: fewer large pictures, since it sees small ones first
V_SET = replace(UPGRADED_SET, name="upgraded-v", n_images=4_000, seed=18)
SMALL_V_SET = replace(UPGRADED_SET, name="upgraded-v-small", size_px=64, seed=19)
V_OUTLINE_SET = replace(UPGRADED_OUTLINE_SET, name="upgraded-v-outline", seed=20)
# of the flow model
FLOW_SET = replace(UPGRADED_SET, name="flow", n_images=6_000, seed=22)
FLOW_OUTLINE_SET = replace(UPGRADED_OUTLINE_SET, name="flow-outline", seed=23)
# of the fine-tunes: a slightly other mix of styles; one style that is rare in the base's own set
NEAR_SET = SetRecipe(
    "near",
    6_000,
    64,
    18,
    (("flat", 0.40), ("shaded", 0.36), ("outline", 0.12), ("hatched", 0.12)),
    1.0,
)
FAR_SET = SetRecipe("far", 6_000, 64, 19, (("shaded", 1.0),))
SETS = {
    s.name: s
    for s in (
        *(BASE_SET, UPGRADED_SET, OUTLINE_SET, HATCHED_SET),
        *(UPGRADED_OUTLINE_SET, UPGRADED_HATCHED_SET),
        *(V_SET, SMALL_V_SET, V_OUTLINE_SET),
    )
}


@dataclass(frozen=True)
class PictureSet:
    """Images (N x H x W x 3, uint8) with their captions and styles."""

    images: np.ndarray
    captions: list[str]
    styles: list[Style]

    def downscaled(self, size_px: int) -> np.ndarray:
        """Return the images area-averaged to a smaller size."""
        return np.stack([downscale(image, size_px) for image in self.images])


def style_at(recipe: SetRecipe, index: int) -> tuple[Style, bool]:
    """Return the style of picture `index` and whether its caption names it."""
    rng = np.random.default_rng([recipe.seed, index, 1])
    names: list[Style] = [name for name, _ in recipe.styles]
    style = names[rng.choice(len(names), p=[share for _, share in recipe.styles])]
    return style, bool(rng.random() < recipe.style_words)


def draw_set(recipe: SetRecipe, cache_dir: Path, *, n_workers: int = 2) -> PictureSet:
    """Draw a training set, or load it from `cache_dir`."""
    path = cache_dir / f"{recipe.name}-{recipe.n_images}x{recipe.size_px}.safetensors"
    indices = range(recipe.n_images)
    styles: list[Style] = [style_at(recipe, i)[0] for i in indices]

    def draw() -> Arrays:
        with ProcessPoolExecutor(n_workers) as pool:
            pictures = pool.map(partial(draw_at, recipe), indices, chunksize=200)
            return {"images": np.stack(list(pictures))}

    images = cached_arrays(path, draw)["images"]
    return PictureSet(images, [caption_at(recipe, i) for i in indices], styles)


def caption_at(recipe: SetRecipe, index: int) -> str:
    """Return the caption of picture `index`."""
    style, is_named = style_at(recipe, index)
    return caption(scene_at(recipe.seed, index), style if is_named else None)


def draw_at(recipe: SetRecipe, index: int) -> np.ndarray:
    """Draw picture `index`, uint8 H x W x 3."""
    style, _ = style_at(recipe, index)
    return render(scene_at(recipe.seed, index), style, recipe.size_px)


def to_unit(images: np.ndarray) -> Tensor:
    """Convert uint8 N x H x W x 3 to float N x 3 x H x W in [-1, 1], channels last in memory."""
    x_bchw = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return x_bchw.float().div_(127.5).sub_(1.0)


def to_uint8(x_bchw: Tensor) -> np.ndarray:
    """Convert float N x 3 x H x W in [-1, 1] to uint8 N x H x W x 3."""
    scaled = ((x_bchw.clamp(-1, 1) + 1) * 127.5).round()
    return scaled.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
