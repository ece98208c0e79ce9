"""Proxies of human preference: thin wrappers of published raters. None replaces human votes.

HPS v2.1 is a plain cosine: see text.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import Better, References, Score, ScoredImage, expect
from metrics.device import in_batches
from metrics.encoders import Network
from metrics.weights import catalog


@dataclass(frozen=True)
class Preference:
    """The value that a published rater gives a picture under a prompt."""

    name: str
    network: Network
    words: str
    better: Better = "higher"
    level: Literal["image"] = "image"

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        return f"preference proxy: {self.words}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the network's weights."""
        return self.network.needs

    def recipe(self) -> str:
        """Return formula, text and weights."""
        return f"{self.words}, content prompt without prefix; {self.network.recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return True: every image has a prompt."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one value for each image, in the device's batches."""
        rate = self.network.loaded().preferences
        values = in_batches(lambda part: rate([(i.load_picture(), i.prompt) for i in part]), images)
        return [Score(float(value)) for value in values]

    def selftest(self) -> None:
        """Check that ratings repeat and depend on the picture."""
        rate = self.network.loaded().preferences
        dark, noise = np.zeros((64, 64, 3), np.uint8), np.random.default_rng(0)
        bright = noise.integers(0, 256, dark.shape, np.uint8)
        first, again, other = (rate([(p, "a red circle")])[0] for p in (dark, dark, bright))
        expect(first == again != other, f"{self.name}: {first}, {again}; another: {other}")


PICKSCORE = Preference(
    "pickscore",
    Network("pick_score", catalog.PICKSCORE, "open_clip's resize and center crop"),
    "exp(logit_scale) * cosine by PickScore v1",
)
IMAGEREWARD = Preference(
    "imagereward",
    Network(
        "image_reward",
        catalog.IMAGEREWARD,
        "224 px bicubic on the short side, center crop, text cut to 35 tokens",
    ),
    "(reward - .16717) / 1.03334 by ImageReward",
)
