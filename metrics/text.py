"""Text alignment: the raw cosine of image and prompt (Hessel et al., arXiv 2104.08718, eq. 1).

Stored without the factor 2.5 and without clipping at 0; both follow from it. No prefix. A prompt
over the context length is cut and keeps its end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import Better, References, Score, ScoredImage, expect
from metrics.encoders import CLIP, HPS, PairEncoder
from metrics.features import unit
from metrics.pocket_scorer import (
    NEEDS,
    HashSource,
    ScorerSource,
    encoder_name,
    shipped_scorer,
    shipped_sha256,
)

_TEXT = "raw cosine to the content prompt, no prefix, long prompts cut with their end token kept"


@dataclass(frozen=True)
class PocketClip:
    """Cosine of picture and content prompt in the pocket scorer's space."""

    scorer: ScorerSource = shipped_scorer
    scorer_sha256: HashSource = shipped_sha256
    name: str = "pocket-clip"
    better: Better = "higher"
    level: Literal["image"] = "image"
    needs: tuple[str, ...] = NEEDS

    def recipe(self) -> str:
        """Scorer and text."""
        return f"{_TEXT}; {encoder_name(self.scorer_sha256())} at 128 px"

    def applies_to(self, image: ScoredImage) -> bool:
        """Every image has a prompt."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """One cosine for each image, -1..1."""
        scorer, encoder = self.scorer(), encoder_name(self.scorer_sha256())
        cache = references.features
        pictures = cache.of_images(images, encoder=encoder, encode=scorer.features)
        prompts = cache.of_texts(
            [image.prompt for image in images], encoder=encoder, encode=scorer.encode_texts
        )
        return cosines(pictures, prompts)

    def selftest(self) -> None:
        """A drawn scene is nearer to its own caption than to another scene's."""
        from pocket.scenes import caption, render, scene_at

        scorer, scenes = self.scorer(), [scene_at(9, i) for i in range(8)]
        pictures = scorer.encode_images([render(s, "shaded", 128) for s in scenes])
        table = pictures @ scorer.encode_texts([caption(s) for s in scenes]).T
        own = float(np.diag(table).mean())
        expect(own > table.mean(), "captions do not match their pictures better than others")


@dataclass(frozen=True)
class ClipScore:
    """Cosine of picture and content prompt by CLIP ViT-L/14 (CLIP score)."""

    network: PairEncoder = CLIP
    name: str = "clip-score"
    better: Better = "higher"
    level: Literal["image"] = "image"

    @property
    def summary(self) -> str:
        """One line for `xbench metrics list`."""
        return f"Cosine of picture and content prompt by {self.network.weights.title}"

    @property
    def needs(self) -> tuple[str, ...]:
        """The weights."""
        return (self.network.weights.name,)

    def recipe(self) -> str:
        """Model, weights and text."""
        return f"{_TEXT}; {self.network.recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Every image has a prompt."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """One cosine for each image, -1..1."""
        pictures = self.network.rows(images, references)
        prompts = self.network.text_rows([image.prompt for image in images], references)
        return cosines(pictures, prompts)

    def selftest(self) -> None:
        """The model loads, a text matches itself, and another text less."""
        rows = unit(self.network.loaded().encode_texts(["a red circle", "a red circle", "dog"]))
        same, other = float(rows[0] @ rows[1]), float(rows[0] @ rows[2])
        expect(abs(same - 1) < 1e-5 and other < 1 - 1e-4, f"cosines are {same:.6f}, {other:.6f}")
        self.network.encode([np.full((80, 64, 3), 10, np.uint8)])


def hpsv2() -> ClipScore:
    """Human preference score v2.1: the raw cosine (Wu et al. 2023, arXiv 2306.09341, eq. 2)."""
    return ClipScore(HPS, "hpsv2")


def cosines(pictures: np.ndarray, prompts: np.ndarray) -> list[Score]:
    """Row-wise cosine of two N x D arrays."""
    return [Score(float(c)) for c in (unit(pictures) * unit(prompts)).sum(axis=-1)]
