"""Style kept: cosine in image space to base + plugin images of other prompts (CLIP-I to a bank).

The paper compares with the base image of the same prompt and seed; that pair shares its content,
and the base row would compare an image with itself. Other prompts' images share only the style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import Better, References, Score, ScoredImage, expect
from metrics.features import unit
from metrics.pocket_scorer import (
    NEEDS,
    HashSource,
    ScorerSource,
    encoder_name,
    shipped_scorer,
    shipped_sha256,
)
from plugins_manifest.schema.kinds import kinds_where

_BankKey = tuple[str, float | None, str]
STYLE_KINDS = kinds_where(lambda kind: kind.changes_style)


@dataclass(frozen=True)
class PocketStyle:
    """Mean cosine to base + plugin images of other prompts in the pocket scorer's space."""

    scorer: ScorerSource = shipped_scorer
    scorer_sha256: HashSource = shipped_sha256
    name: str = "pocket-style"
    better: Better = "higher"
    level: Literal["image"] = "image"
    needs: tuple[str, ...] = NEEDS

    def recipe(self) -> str:
        """Scorer and bank."""
        bank = "base + plugin images of all other prompts and their seeds, same plugin scale"
        return f"CLIP-I, mean cosine to {bank}; {encoder_name(self.scorer_sha256())} at 128 px"

    def applies_to(self, image: ScoredImage) -> bool:
        """Only plugins that change the style, alone or in a stack."""
        return image.is_of(STYLE_KINDS)

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """One mean cosine for each image, -1..1."""
        centers: dict[_BankKey, np.ndarray | None] = {}
        return [self._score(image, references, centers) for image in images]

    def selftest(self) -> None:
        """An outlined drawing is nearer to outlined than to flat drawings of other scenes."""
        from pocket.scenes import render, scene_at

        scorer = self.scorer()
        flat, outline = (
            scorer.encode_images([render(scene_at(8, i), style, 128) for i in range(40)])
            for style in ("flat", "outline")
        )
        others = ~np.eye(40, dtype=bool)
        same, crossed = (outline @ outline.T)[others].mean(), (outline @ flat.T)[others].mean()
        expect(same > crossed, f"same style {same:.3f} is not nearer than another {crossed:.3f}")

    def _score(
        self,
        image: ScoredImage,
        references: References,
        centers: dict[_BankKey, np.ndarray | None],
    ) -> Score:
        key = (image.plugin, image.plugin_scale, image.prompt)
        if key not in centers:
            bank = self._directions(references.style_bank(image), references)
            centers[key] = bank.mean(axis=0) if len(bank) else None
        center = centers[key]
        if center is None:
            return Score(None, "no base + plugin image of another prompt to compare with")
        return Score(float(self._directions([image], references)[0] @ center))

    def _directions(self, images: Sequence[ScoredImage], references: References) -> np.ndarray:
        encoder, encode = encoder_name(self.scorer_sha256()), self.scorer().features
        return unit(references.features.of_images(images, encoder=encoder, encode=encode))
