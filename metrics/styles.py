"""Style kept, in the features of published networks: CLIP-I, CSD, Gram matrices.

Against a bank of base + plugin images of other prompts, which share the style and not the content;
and, in the paper's way, against the base image of the same prompt and seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import Better, References, Score, ScoredImage, expect
from metrics.encoders import CLIP, CSD, GRAM, Encoder, RowSource
from metrics.features import unit
from metrics.pocket_scorer import PocketEncoder
from metrics.style import STYLE_KINDS

_BankKey = tuple[str, float | None, str]
_NO_BANK = "no base + plugin image of another prompt to compare with"


@dataclass(frozen=True)
class StyleToBank:
    """Mean cosine to base + plugin images of all other prompts."""

    name: str
    encoder: Encoder
    words: str
    better: Better = "higher"
    level: Literal["image"] = "image"

    @property
    def summary(self) -> str:
        """One line for `xbench metrics list`."""
        return f"{self.words}: mean cosine to base + plugin images of other prompts"

    @property
    def needs(self) -> tuple[str, ...]:
        """The weights."""
        return (self.encoder.weights.name,)

    def recipe(self) -> str:
        """Network and bank."""
        bank = "base + plugin images of all other prompts and their seeds, same plugin scale"
        return f"{self.words}, mean cosine to {bank}; {self.encoder.recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Only plugins that change the style, alone or in a stack."""
        return image.is_of(STYLE_KINDS)

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """One mean cosine for each image, -1..1."""
        centers: dict[_BankKey, np.ndarray | None] = {}
        scores = []
        for image in images:
            key = (image.plugin, image.plugin_scale, image.prompt)
            if key not in centers:
                bank = references.style_bank(image)
                rows = unit(self.encoder.rows(bank, references)) if bank else None
                centers[key] = None if rows is None else rows.mean(axis=0)
            center = centers[key]
            if center is None:
                scores.append(Score(None, _NO_BANK))
            else:
                own = unit(self.encoder.rows([image], references))[0]
                scores.append(Score(float(own @ center)))
        return scores

    def selftest(self) -> None:
        """The network loads; a picture is nearest to itself, and its row does not change."""
        selftest_of(self.encoder)


def style_clip_i() -> StyleToBank:
    """CLIP-I to a bank (Gal et al. 2022, arXiv 2208.01618, section 4.3, with other prompts)."""
    return StyleToBank("style-clip-i", CLIP, "CLIP-I")


def style_csd() -> StyleToBank:
    """CSD to a bank (Somepalli et al. 2024, arXiv 2404.01292)."""
    return StyleToBank("style-csd", CSD, "CSD")


def style_gram() -> StyleToBank:
    """Gram matrices to a bank (Gatys et al. 2015, arXiv 1508.06576; the cosine is ours)."""
    return StyleToBank("style-gram", GRAM, "Gram matrices")


@dataclass(frozen=True)
class StyleToBase:
    """CLIP-I to the base image of the same prompt and seed (the paper's; content counts)."""

    encoder: RowSource = CLIP
    name: str = "style-clip-i-paper"
    better: Better = "higher"
    level: Literal["image"] = "image"

    @property
    def needs(self) -> tuple[str, ...]:
        """The weights."""
        return self.encoder.needs

    def recipe(self) -> str:
        """Network and reference."""
        return f"CLIP-I, cosine to base + plugin of the same case and seed; {self.encoder.recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Only plugins that change the style, alone or in a stack."""
        return image.is_of(STYLE_KINDS)

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """One cosine for each image; None for the base images."""
        return [self._score(image, references) for image in images]

    def selftest(self) -> None:
        """The network loads; a picture is nearest to itself, and its row does not change."""
        selftest_of(self.encoder)

    def _score(self, image: ScoredImage, references: References) -> Score:
        if image.method == "base":
            return Score(None, "self-reference: this is the base image")
        base = references.base_of(image)
        if base is None:
            return Score(None, "there is no base image of this case and seed")
        own, other = unit(self.encoder.rows([image, base], references))
        return Score(float(own @ other))


def pocket_style_paper() -> StyleToBase:
    """The paper's style score in the pocket scorer's space."""
    return StyleToBase(PocketEncoder(), "pocket-style-paper")


def selftest_of(encoder: RowSource) -> None:
    """Raise SelfTestError unless rows repeat exactly and tell two pictures apart."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    flat = np.full_like(noise, 128)
    rows = unit(encoder.encode([noise, flat, noise]))
    same, other = float(rows[0] @ rows[2]), float(rows[0] @ rows[1])
    expect(np.array_equal(rows[0], rows[2]), "the same picture gives other features")
    expect(other < same, f"cosine {same:.6f} to itself, {other:.6f} to another picture")
