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
from metrics.distances import CMMD_SCALE, CMMD_SIGMA, gaussian_kernel
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


@dataclass(frozen=True)
class CsdMmd:
    """Kernel distance of CSD rows to base + plugin's, pairs of different prompts."""

    encoder: Encoder = CSD
    name: str = "style-csd-mmd"
    better: Better = "lower"
    level: Literal["group"] = "group"

    @property
    def needs(self) -> tuple[str, ...]:
        """The weights."""
        return (self.encoder.weights.name,)

    def recipe(self) -> str:
        """Kernel, pairs and network."""
        return (
            f"{CMMD_SCALE:g} x MMD^2, Gaussian kernel sigma {CMMD_SIGMA:g} on unit rows, pairs of "
            f"different prompts, to base + plugin images; {self.encoder.recipe()}"
        )

    def applies_to(self, image: ScoredImage) -> bool:
        """Only plugins that change the style, alone or in a stack."""
        return image.is_of(STYLE_KINDS)

    def score(self, images: Sequence[ScoredImage], references: References) -> Score:
        """The distance; near 0 where the styles are one, below 0 by chance."""
        if images and all(image.method == "base" for image in images):
            return Score(None, "self-reference: these are the base images")
        found = {b.trial_id: b for image in images for b in references.style_bank(image)}
        bank = sorted(found.values(), key=lambda image: image.trial_id)
        prompts, bank_prompts = [i.prompt for i in images], [i.prompt for i in bank]
        if len(set(prompts)) < 2 or len(set(bank_prompts)) < 2:
            return Score(None, "pairs of different prompts need 2 prompts on each side")
        x, y = (unit(self.encoder.rows(side, references)) for side in (images, bank))
        terms = _Terms(x, y, np.array(prompts), np.array(bank_prompts))
        names = sorted(set(prompts))
        left_out = {n: terms.distance(without=n) for n in names if len(names) > 2}
        return Score(terms.distance(), leave_one_out=left_out)

    def selftest(self) -> None:
        """The network loads; a picture is nearest to itself, and its row does not change."""
        selftest_of(self.encoder)


@dataclass(frozen=True)
class _Terms:
    """Rows of both sides with their prompts."""

    x: np.ndarray
    y: np.ndarray
    prompts_x: np.ndarray
    prompts_y: np.ndarray

    def distance(self, without: str | None = None) -> float:
        """`CMMD_SCALE` x MMD^2 without one prompt of x."""
        keep = self.prompts_x != without if without is not None else np.ones(len(self.x), bool)
        x, prompts = self.x[keep], self.prompts_x[keep]
        within_x = _mean_of_different(x, x, prompts, prompts)
        within_y = _mean_of_different(self.y, self.y, self.prompts_y, self.prompts_y)
        across = _mean_of_different(x, self.y, prompts, self.prompts_y)
        return CMMD_SCALE * (within_x + within_y - 2 * across)


def _mean_of_different(
    a: np.ndarray, b: np.ndarray, prompts_a: np.ndarray, prompts_b: np.ndarray
) -> float:
    different = prompts_a[:, None] != prompts_b[None]
    return float(gaussian_kernel(a, b)[different].mean())


def selftest_of(encoder: RowSource) -> None:
    """Raise SelfTestError unless rows repeat exactly and tell two pictures apart."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    flat = np.full_like(noise, 128)
    rows = unit(encoder.encode([noise, flat, noise]))
    same, other = float(rows[0] @ rows[2]), float(rows[0] @ rows[1])
    expect(np.array_equal(rows[0], rows[2]), "the same picture gives other features")
    expect(other < same, f"cosine {same:.6f} to itself, {other:.6f} to another picture")
