"""Style kept: cosine in the features of CLIP-I, CSD, Gram matrices or the pocket scorer.

Against a bank of base + plugin images of other prompts, which share the style and not the content;
and, as in the X-Adapter paper, against the base image of the same prompt and seed: that pair shares
its content, and the base row would compare an image with itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import LAST_RANK, Better, Families, References, Role, Score, ScoredImage, expect
from metrics.encoders import CLIP, CSD, GRAM, RowSource
from metrics.features import unit
from metrics.pocket_scorer import POCKET_FAMILIES, PocketEncoder
from plugins_manifest.schema.kinds import kinds_where

STYLE_KINDS = kinds_where(lambda kind: kind.changes_style)
_BankKey = tuple[str, float | None, str]
_NO_BANK = "no base + plugin image of another prompt to compare with"


@dataclass(frozen=True)
class StyleToBank:
    """Mean cosine to base + plugin images of all other prompts."""

    name: str
    encoder: RowSource
    words: str
    space: str = ""
    role: Role | None = "function"
    rank: int = LAST_RANK
    family: Families = None
    compares_with: tuple[str, ...] = ("base",)
    better: Better = "higher"
    level: Literal["image"] = "image"

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        return f"{self.words}{self.space}: mean cosine to base + plugin images of other prompts"

    @property
    def encoders(self) -> tuple[RowSource, ...]:
        """Return the networks whose rows are all that it takes from pictures."""
        return (self.encoder,)

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the network's weights."""
        return self.encoder.needs

    def recipe(self) -> str:
        """Return network and bank."""
        bank = "base + plugin images of all other prompts and their seeds, same plugin scale"
        return f"{self.words}, mean cosine to {bank}; {self.encoder.recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether a plugin, alone or in a stack, changes the style."""
        return image.is_of(STYLE_KINDS)

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one mean cosine for each image, -1..1."""
        self.encoder.rows(images, references)  # in batches; below they are taken one by one
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
        """Check that features repeat and differ between pictures."""
        selftest_of(self.encoder)


@dataclass(frozen=True)
class StyleToBase:
    """CLIP-I to the base image of the same prompt and seed (the paper's; content counts)."""

    name: str
    encoder: RowSource
    better: Better = "higher"
    level: Literal["image"] = "image"

    @property
    def encoders(self) -> tuple[RowSource, ...]:
        """Return the networks whose rows are all that it takes from pictures."""
        return (self.encoder,)

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the network's weights."""
        return self.encoder.needs

    def recipe(self) -> str:
        """Return network and reference."""
        return f"CLIP-I, cosine to base + plugin of the same case and seed; {self.encoder.recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether a plugin, alone or in a stack, changes the style."""
        return image.is_of(STYLE_KINDS)

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one cosine for each image; None for the base images."""
        self.encoder.rows(images, references)  # in batches; below they are taken one by one
        return [self._score(image, references) for image in images]

    def selftest(self) -> None:
        """Check that features repeat and differ between pictures."""
        selftest_of(self.encoder)

    def _score(self, image: ScoredImage, references: References) -> Score:
        if image.method == "base":
            return Score(None, "self-reference: this is the base image")
        base = references.base_of(image)
        if base is None:
            return Score(None, "there is no base image of this case and seed")
        own, other = unit(self.encoder.rows([image, base], references))
        return Score(float(own @ other))


def selftest_of(encoder: RowSource) -> None:
    """Raise SelfTestError unless rows repeat exactly and differ between two pictures."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    flat = np.full_like(noise, 128)
    rows = unit(encoder.encode([noise, flat, noise]))
    same, other = float(rows[0] @ rows[2]), float(rows[0] @ rows[1])
    expect(np.array_equal(rows[0], rows[2]), "the same picture gives other features")
    expect(other < same, f"cosine {same:.6f} to itself, {other:.6f} to another picture")


# Gal et al. 2022, arXiv 2208.01618, section 4.3, with other prompts
STYLE_CLIP_I = StyleToBank("style-clip-i", CLIP, "CLIP-I", rank=180)
STYLE_CSD = StyleToBank("style-csd", CSD, "CSD", rank=190)  # Somepalli et al., arXiv 2404.01292
# Gatys et al. 2015, arXiv 1508.06576; the cosine is ours
STYLE_GRAM = StyleToBank("style-gram", GRAM, "Gram matrices", rank=200)
POCKET_STYLE = StyleToBank(
    "pocket-style", PocketEncoder(), "CLIP-I", " (pocket scorer)", rank=210, family=POCKET_FAMILIES
)
STYLE_CLIP_I_PAPER = StyleToBase("style-clip-i-paper", CLIP)
POCKET_STYLE_PAPER = StyleToBase("pocket-style-paper", PocketEncoder())
