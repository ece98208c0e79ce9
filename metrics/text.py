"""Text alignment: the raw cosine of image and prompt (Hessel et al., arXiv 2104.08718, eq. 1).

Stored without the factor 2.5 and without clipping at 0; both follow from it. No prefix. A prompt
over the context length is cut and keeps its end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import LAST_RANK, Better, Families, References, Role, Score, ScoredImage, expect
from metrics.encoders import CLIP, HPS, PairSource, RowSource
from metrics.features import unit
from metrics.pocket_scorer import POCKET_FAMILIES, PocketEncoder

_TEXT = "raw cosine to the content prompt, no prefix, long prompts cut with their end token kept"


@dataclass(frozen=True)
class ClipScore:
    """Cosine of picture and content prompt."""

    name: str
    network: PairSource
    role: Role | None = None
    rank: int = LAST_RANK
    family: Families = None
    better: Better = "higher"
    level: Literal["image"] = "image"

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        return f"Cosine of picture and content prompt by {self.network.title}"

    @property
    def encoders(self) -> tuple[RowSource, ...]:
        """Return the networks whose rows are all that it takes from pictures."""
        return (self.network,)

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the network's weights."""
        return self.network.needs

    def recipe(self) -> str:
        """Return text, model and weights."""
        return f"{_TEXT}; {self.network.recipe()}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return True: every image has a prompt."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one cosine for each image, -1..1."""
        pictures = unit(self.network.rows(images, references))
        prompts = unit(self.network.text_rows([image.prompt for image in images], references))
        return [Score(float(cosine)) for cosine in (pictures * prompts).sum(axis=-1)]

    def selftest(self) -> None:
        """Check that the network loads and that a text is nearer to itself than to another."""
        rows = unit(self.network.encode_texts(["a red circle", "a red circle", "dog"]))
        same, other = float(rows[0] @ rows[1]), float(rows[0] @ rows[2])
        expect(abs(same - 1) < 1e-5 and other < 1 - 1e-4, f"cosines are {same:.6f}, {other:.6f}")
        self.network.encode([np.full((80, 64, 3), 10, np.uint8)])


CLIP_SCORE = ClipScore("clip-score", CLIP, "text", 10)
POCKET_CLIP = ClipScore("pocket-clip", PocketEncoder(), "text", 20, family=POCKET_FAMILIES)
# human preference score v2.1: the raw cosine (Wu et al. 2023, arXiv 2306.09341, eq. 2)
HPSV2 = ClipScore("hpsv2", HPS)
