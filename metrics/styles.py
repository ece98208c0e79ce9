"""Style kept: cosine in the features of CLIP-I, CSD, Gram matrices or the pocket scorer.

Against a bank of base + plugin images of other prompts, which share the style and not the content;
and, as in the X-Adapter paper, against the base image of the same prompt and seed: that pair shares
its content, and the base row would compare an image with itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from metrics.base import LAST_RANK, Better, Families, References, Role, Score, ScoredImage
from metrics.encoders import CLIP, CSD, GRAM, RowSource
from metrics.features import unit
from metrics.one_encoder import OneEncoder, bank_cosines
from metrics.pocket_scorer import POCKET_FAMILIES, PocketEncoder
from plugins_manifest.schema.kinds import kinds_where

STYLE_KINDS = kinds_where(lambda kind: kind.changes_style)
_NO_BANK = "no base + plugin image of another prompt to compare with"


@dataclass(frozen=True)
class StyleToBank(OneEncoder):
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

    def recipe(self) -> str:
        """Return network and bank."""
        bank = "base + plugin images of all other prompts and their seeds, same plugin scale"
        return f"{self.words}, mean cosine to {bank}; {self.encoder.recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether a plugin, alone or in a stack, changes the style."""
        return image.is_of(STYLE_KINDS)

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one mean cosine for each image, -1..1."""
        return bank_cosines(
            self.encoder,
            images,
            references,
            bank_of=references.style_bank,
            key_of=lambda image: (image.plugin, image.plugin_scale, image.prompt),
            without=_NO_BANK,
        )


@dataclass(frozen=True)
class StyleToBase(OneEncoder):
    """CLIP-I to the base image of the same prompt and seed (the paper's; content counts)."""

    name: str
    encoder: RowSource
    better: Better = "higher"
    level: Literal["image"] = "image"

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

    def _score(self, image: ScoredImage, references: References) -> Score:
        if image.method == "base":
            return Score(None, "self-reference: this is the base image")
        base = references.base_of(image)
        if base is None:
            return Score(None, "there is no base image of this case and seed")
        own, other = unit(self.encoder.rows([image, base], references))
        return Score(float(own @ other))


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
