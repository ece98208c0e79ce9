"""The tile condition kept: a tile ControlNet gets a picture itself and should only add detail.

LPIPS to the condition image, and the peak signal-to-noise ratio of what remains of both after a
low-pass filter (a shrink to an eighth): new fine detail costs nothing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics import resize
from metrics.base import Better, References, Role, Score, ScoredImage, ceiling_by, expect
from metrics.condition.detectors import TILE
from metrics.perceptual_distance import ALEX, PairNetwork, PairToLoad, scores_of_pairs, selftest_of

SHRINK = 8
PSNR_LIMIT = 100.0  # of equal pictures, as in ControlNet++'s scripts
_NO_CONDITION = "the trial has no condition image"


def low_pass_psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return PSNR in dB (at most 100) of uint8 pictures, both shrunk to an eighth of b's sides."""
    height, width = b.shape[:2]
    size_px = (max(1, width // SHRINK), max(1, height // SHRINK))
    x, y = (resize.clean_resize(p, size_px).astype(np.float64) for p in (a, b))
    error = float(((x - y) ** 2).mean())
    return min(PSNR_LIMIT, 10 * np.log10(255**2 / error)) if error else PSNR_LIMIT


@dataclass(frozen=True)
class TilePsnr:
    """Peak signal-to-noise ratio to the tile condition without fine detail, in dB."""

    name: str = "tile-psnr"
    role: Role | None = "function"
    rank: int = 160
    condition: str = TILE.name
    better: Better = "higher"
    level: Literal["image"] = "image"
    needs: tuple[str, ...] = ()

    def recipe(self) -> str:
        """Return filter and limit."""
        return f"PSNR in dB after a shrink to 1/{SHRINK} ({resize.NAME}), at most {PSNR_LIMIT:g}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether a plugin, alone or in a stack, has tile conditions."""
        return image.condition_of(TILE.name) is not None

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one value for each image."""
        return [self._score(image) for image in images]

    def ceiling(self, image: ScoredImage) -> Score:
        """Return the score of the source picture itself, that of a perfect image."""
        return ceiling_by(self._score, image, detector=TILE.name)

    def selftest(self) -> None:
        """Check the limit for equal pictures, and the closed form for a constant offset."""
        flat = np.full((64, 64, 3), 100, np.uint8)
        same, offset = low_pass_psnr(flat, flat), low_pass_psnr(flat + 10, flat)
        expect(same == PSNR_LIMIT, f"{self.name} of equal pictures is {same}")
        expect(abs(offset - 28.13) < 0.01, f"{self.name} of an offset of 10 is {offset}")

    def _score(self, image: ScoredImage) -> Score:
        load = image.condition_of(TILE.name)
        if load is None:
            return Score(None, _NO_CONDITION)
        return Score(float(low_pass_psnr(image.load_picture(), load())))


@dataclass(frozen=True)
class TileLpips:
    """LPIPS to the tile condition."""

    network: PairNetwork = ALEX
    name: str = "tile-lpips"
    role: Role | None = "function"
    rank: int = 150
    condition: str = TILE.name
    better: Better = "lower"
    level: Literal["image"] = "image"

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the network's weights."""
        return self.network.needs

    def recipe(self) -> str:
        """Return network and reference."""
        return f"{self.network.recipe()}; to the condition image at its size"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether a plugin, alone or in a stack, has tile conditions."""
        return image.condition_of(TILE.name) is not None

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one distance for each image."""
        return self._scores(images)

    def ceiling(self, image: ScoredImage) -> Score:
        """Return the score of the source picture itself, that of a perfect image."""
        return ceiling_by(lambda source: self._scores([source])[0], image, detector=TILE.name)

    def selftest(self) -> None:
        """Check the order of known distances."""
        selftest_of(self.network)

    def _scores(self, images: Sequence[ScoredImage]) -> list[Score]:
        pairs = [_with_condition(image) for image in images]
        return scores_of_pairs(self.network, pairs, missing=[_NO_CONDITION] * len(images))


def _with_condition(image: ScoredImage) -> PairToLoad | None:
    load = image.condition_of(TILE.name)
    return None if load is None else (image.load_picture, load)


TILE_LPIPS = TileLpips()
TILE_PSNR = TilePsnr()
