"""Style kept, as a continuous number: the place of an image between floor and base + plugin.

Ours. The rate of images that a classifier puts into the style counts each as 0 or 1; the projection
of an image's feature on the direction of the plugin's effect varies less from image to image, so
that a difference is seen with fewer prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import LAST_RANK, Better, Families, References, Role, Score, ScoredImage, expect
from metrics.encoders import CLIP, CSD, RowSource
from metrics.features import unit
from metrics.one_encoder import OneEncoder
from metrics.pocket_scorer import POCKET_FAMILIES, PocketEncoder
from metrics.styles import STYLE_KINDS

_NO_BANK = "no base + plugin image of another prompt to compare with"
_NO_FLOOR = "no image of another prompt by the upgraded model without plugin (floor)"
_NO_DIRECTION = "base + plugin and floor have the same mean feature: there is no direction"
_NOISE = 1e-10  # of |d|^2: float32 rounding of rows of length 1
_BankKey = tuple[str, float | None, str]


@dataclass(frozen=True)
class Direction:
    """From the mean feature of floor images [D], the way `step` [D] to that of base + plugin."""

    start: np.ndarray
    step: np.ndarray

    def place(self, row: np.ndarray) -> float:
        """Return (row - start) . step / |step|^2: 0 at the mean of floor, 1 at that of base."""
        return float((row - self.start) @ self.step / (self.step @ self.step))


def direction(floor: np.ndarray, base: np.ndarray) -> Direction | None:
    """Return the direction from rows [M, D] to rows [N, D]; None if it is rounding errors alone."""
    start = floor.mean(axis=0)
    step = base.mean(axis=0) - start
    return Direction(start, step) if step @ step > _NOISE else None


@dataclass(frozen=True)
class StyleProjection(OneEncoder):
    """Place between floor (0) and base + plugin (1) along the plugin's effect on other prompts.

    With d = mean(base + plugin) - mean(floor) of unit features of all other prompts, an image of
    feature x has (x - mean(floor)) . d / |d|^2. Below 0 and above 1 are possible.
    """

    name: str
    encoder: RowSource
    words: str
    rank: int = LAST_RANK
    role: Role | None = "function"
    family: Families = None
    beside: tuple[str, ...] = ()
    compares_with: tuple[str, ...] = ("base", "floor")
    better: Better = "higher"
    level: Literal["image"] = "image"

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        return f"{self.words}: place between floor (0) and base + plugin (1) of other prompts"

    def recipe(self) -> str:
        """Return network, direction and unit."""
        return (
            f"{self.words}, projection on mean(base + plugin) - mean(floor) of unit features of "
            f"all other prompts, same plugin scale, in units of its length; {self.encoder.recipe()}"
        )

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether a plugin, alone or in a stack, changes the style."""
        return image.is_of(STYLE_KINDS)

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one place for each image; images of its own prompt do not decide it."""
        self.encoder.rows(images, references)  # in batches; below they are taken one by one
        known: dict[_BankKey, Direction | str] = {}
        scores = []
        for image in images:
            key = (image.plugin, image.plugin_scale, image.prompt)
            if key not in known:
                known[key] = self._direction(image, references)
            found = known[key]
            if isinstance(found, str):
                scores.append(Score(None, found))
            else:
                own = unit(self.encoder.rows([image], references))[0]
                scores.append(Score(found.place(own)))
        return scores

    def selftest(self) -> None:
        """Check the features, and that the middle of two of them is halfway."""
        super().selftest()
        pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
        floor, base = unit(self.encoder.encode([pictures[0], pictures[1] // 4]))
        found = direction(floor[None], base[None])
        expect(found is not None, "two different pictures have the same feature")
        if found is not None:
            places = [found.place(row) for row in (floor, (floor + base) / 2, base)]
            expect(bool(np.allclose(places, [0, 0.5, 1])), f"0, 0.5 and 1 are {places}")

    def _direction(self, image: ScoredImage, references: References) -> Direction | str:
        """Return the direction for an image, or why there is none."""
        base = references.style_bank(image)
        floor = [f for f in references.made_by("floor", image) if f.prompt != image.prompt]
        if not base:
            return _NO_BANK
        if not floor:
            return _NO_FLOOR
        rows = (unit(self.encoder.rows(bank, references)) for bank in (floor, base))
        return direction(*rows) or _NO_DIRECTION


# CSD comes second: its published weights do not reproduce the paper's figures
STYLE_PROJECTION_CLIP_I = StyleProjection("style-projection-clip-i", CLIP, "CLIP-I", 175)
STYLE_PROJECTION = StyleProjection("style-projection", CSD, "CSD", 176)
POCKET_STYLE_PROJECTION = StyleProjection(
    "pocket-style-projection",
    PocketEncoder(),
    "Pocket scorer",
    165,
    family=POCKET_FAMILIES,
    beside=("pocket-style-rate",),
)
