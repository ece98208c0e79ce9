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

import numpy as np

from metrics.base import Better, References, Score, ScoredImage
from metrics.encoders import CLIP, DINOV2, RowSource
from metrics.features import unit
from metrics.pocket_scorer import PocketEncoder
from metrics.styles import selftest_of

_NO_SAMPLES = "the plugin has no sample pictures: name a folder of them in its 'samples'"


@dataclass(frozen=True)
class Identity:
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

    @property
    def encoders(self) -> tuple[RowSource, ...]:
        """Return the networks whose rows are all that it takes from pictures."""
        return (self.encoder,)

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the network's weights."""
        return self.encoder.needs

    def recipe(self) -> str:
        """Return network and bank; the pictures' sha256 is in run.json."""
        bank = "the manifest's samples of the plugin"
        return f"{self.title}, mean cosine to {bank}; {self.encoder.recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return whether the plugin has sample pictures."""
        return bool(image.samples)

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one mean cosine for each image, -1..1."""
        self.encoder.rows(images, references)  # in batches; below they are taken one by one
        centers: dict[str, np.ndarray] = {}
        scores = []
        for image in images:
            if not image.samples:
                scores.append(Score(None, _NO_SAMPLES))
                continue
            if image.plugin not in centers:
                bank = self.encoder.rows(image.samples, references)
                centers[image.plugin] = unit(bank).mean(axis=0)
            own = unit(self.encoder.rows([image], references))[0]
            scores.append(Score(float(own @ centers[image.plugin])))
        return scores

    def selftest(self) -> None:
        """Check that features repeat and differ between pictures."""
        selftest_of(self.encoder)


DINO_I = Identity("dino-i", DINOV2, "DINO-I")
CLIP_I = Identity("clip-i", CLIP, "CLIP-I")
POCKET_IDENTITY = Identity("pocket-identity", PocketEncoder(), "Pocket scorer")
