"""Perceptual distance to the base model's image: how much of the picture was kept.

LPIPS without learned weights (Zhang et al., arXiv 1801.03924, eq. 1 with w_l = 1), on the pocket
scorer's feature maps, under its own name: the lpips package's backbones are downloads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import Better, References, Score, ScoredImage, expect
from metrics.pocket_scorer import (
    NEEDS,
    HashSource,
    ScorerSource,
    encoder_name,
    shipped_scorer,
    shipped_sha256,
)

Maps = list[np.ndarray]  # one per layer, C x h x w, unit length over C


@dataclass(frozen=True)
class PocketLpips:
    """LPIPS without learned weights to the base image, in the pocket scorer's maps."""

    scorer: ScorerSource = shipped_scorer
    scorer_sha256: HashSource = shipped_sha256
    name: str = "pocket-lpips"
    better: Better = "lower"
    level: Literal["image"] = "image"
    needs: tuple[str, ...] = NEEDS

    def recipe(self) -> str:
        """Scorer, layers and reference."""
        scorer = encoder_name(self.scorer_sha256())
        return (
            f"LPIPS eq. 1, w = 1, sum over stem and 4 stages; {scorer} at 128 px; to the base image"
        )

    def applies_to(self, image: ScoredImage) -> bool:
        """Every image has a base image, or a reason why not."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """One distance for each image, 0 for equal pictures; None for the base images."""
        scores = []
        seen: dict[str, Maps] = {}
        for image in images:
            base = references.base_of(image)
            if image.method == "base":
                scores.append(Score(None, "self-reference: this is the base image"))
            elif base is None:
                scores.append(Score(None, "there is no base image of this case and seed"))
            else:
                scores.append(Score(distance(self._maps(image, seen), self._maps(base, seen))))
        return scores

    def selftest(self) -> None:
        """Zero for equal pictures, more for noise than for a slight change."""
        from pocket.scenes import render, scene_at

        picture = render(scene_at(7, 0), "shaded", 128)
        slight = (picture.astype(np.int16) + 4).clip(0, 255).astype(np.uint8)
        noise = np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)
        maps = [self._encode(x) for x in (picture, slight, noise)]
        same, near, far = (distance(maps[0], other) for other in maps)
        told = f"{same:.3g}, {near:.3g}, {far:.3g}"
        expect(same == 0 < near < far, f"distances to equal, near, far pictures are {told}")

    def _maps(self, image: ScoredImage, seen: dict[str, Maps]) -> Maps:
        if image.image_sha256 not in seen:
            seen[image.image_sha256] = self._encode(image.load_picture())
        return seen[image.image_sha256]

    def _encode(self, picture: np.ndarray) -> Maps:
        return [normalized(m[0].numpy()) for m in self.scorer().feature_maps([picture])]


def normalized(map_chw: np.ndarray) -> np.ndarray:
    """A feature map with unit length over its channels at each place, C x h x w."""
    return map_chw / (np.sqrt((map_chw**2).sum(axis=0, keepdims=True)) + 1e-10)


def distance(a: Maps, b: Maps) -> float:
    """Sum over layers of the mean over places of the squared difference of unit vectors."""
    return float(sum(((x - y) ** 2).sum(axis=0).mean() for x, y in zip(a, b, strict=True)))
