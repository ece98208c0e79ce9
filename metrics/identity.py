"""Identity kept: mean cosine to sample pictures of what a plugin teaches, as a character's.

DINO-I and CLIP-I of subject-driven generation (Ruiz et al. 2023, DreamBooth, arXiv 2208.12242,
section 4.2): cosines between images and real pictures of the subject. The bank is the manifest's
`samples` of the plugin: its author's pictures, not images of this run, so that both models are
measured by the same standard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from metrics.base import Better, References, Score, ScoredImage
from metrics.encoders import CLIP, DINOV2, RowSource
from metrics.one_encoder import OneEncoder, bank_cosines
from metrics.pocket_scorer import PocketEncoder

_NO_SAMPLES = "the plugin has no sample pictures: name a folder of them in its 'samples'"


@dataclass(frozen=True)
class Identity(OneEncoder):
    """Mean cosine to the plugin's sample pictures."""

    name: str
    encoder: RowSource
    title: str
    better: Better = "higher"
    level: Literal["image"] = "image"

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        return f"{self.title}: mean cosine to the plugin's own sample pictures"

    def recipe(self) -> str:
        """Return network and bank; the pictures' sha256 is in run.json."""
        bank = "the manifest's samples of the plugin"
        return f"{self.title}, mean cosine to {bank}; {self.encoder.recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether the plugin has sample pictures."""
        return bool(image.samples)

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one mean cosine for each image, -1..1."""
        return bank_cosines(
            self.encoder,
            images,
            references,
            bank_of=lambda image: image.samples,
            key_of=lambda image: image.plugin,
            without=_NO_SAMPLES,
        )


DINO_I = Identity("dino-i", DINOV2, "DINO-I")
CLIP_I = Identity("clip-i", CLIP, "CLIP-I")
POCKET_IDENTITY = Identity("pocket-identity", PocketEncoder(), "Pocket scorer")
