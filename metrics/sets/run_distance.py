"""Kernel distances to images of the same run: native plugin, upgraded model, base + plugin.

The kernel distance is taken over pairs of different prompts (`apart`), which are apart in content
and in noise: the run's own images then serve as held-out ones. Against the upgraded model without
plugin alone, a plugin that works looks like a loss of quality; against the native plugin's images
(method `oracle`) it does not. Against base + plugin, in features of style, it measures the style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import Better, References, Score, ScoredImage, expect
from metrics.encoders import CLIP_336, CSD, INCEPTION, RowSource
from metrics.features import unit
from metrics.pocket_scorer import PocketEncoder
from metrics.sets import formulas as distances
from metrics.sets.apart import apart_kernel_distance
from metrics.style import STYLE_KINDS

Formula = Literal["polynomial", "gaussian"]
Target = Literal["oracle", "floor", "base"]
_WORDS: dict[Formula, str] = {
    "polynomial": "MMD^2, kernel (x.y/d+1)^3",
    "gaussian": f"{distances.CMMD_SCALE:g} x MMD^2 on unit rows, Gaussian kernel sigma "
    f"{distances.CMMD_SIGMA:g}",
}
_TARGETS: dict[Target, str] = {
    "oracle": "images of the plugin made natively for the upgraded model (method oracle)",
    "floor": "images of the upgraded model without plugin (method floor)",
    "base": "images of the plugin on the base model (method base)",
}
_SHORT: dict[Target, str] = {
    "oracle": "the native plugin's",
    "floor": "the upgraded model's own",
    "base": "the base + plugin",
}


@dataclass(frozen=True)
class NativeDistance:
    """Kernel distance to another method's images of the same run, pairs of different prompts."""

    name: str
    formula: Formula
    encoder: RowSource
    target: Target = "oracle"
    better: Better = "lower"
    level: Literal["group"] = "group"

    @property
    def summary(self) -> str:
        """One line for `xbench metrics list`."""
        return f"Kernel distance to {_SHORT[self.target]} images of the run"

    @property
    def needs(self) -> tuple[str, ...]:
        """The weights."""
        return self.encoder.needs

    def recipe(self) -> str:
        """Kernel, pairs, reference and network."""
        if self.target == "base":  # worded as it always was: a new recipe would score runs anew
            return (
                f"{distances.CMMD_SCALE:g} x MMD^2, Gaussian kernel sigma {distances.CMMD_SIGMA:g} "
                "on unit rows, pairs of different prompts, to base + plugin images; "
                f"{self.encoder.recipe()}"
            )
        return (
            f"{_WORDS[self.formula]}, pairs of different prompts; {self.encoder.recipe()}; "
            f"reference: the run's {_TARGETS[self.target]}"
        )

    def applies_to(self, image: ScoredImage) -> bool:
        """Every image has a quality; only plugins that change the style are compared with base."""
        return self.target != "base" or image.is_of(STYLE_KINDS)

    def score(self, images: Sequence[ScoredImage], references: References) -> Score:
        """The distance; 0 for the reference itself (null for base), below 0 by chance."""
        if self.target == "base" and images and all(image.method == "base" for image in images):
            return Score(None, "self-reference: these are the base images")
        found = {i.trial_id: i for image in images for i in self._others(image, references)}
        others = sorted(found.values(), key=lambda image: image.trial_id)
        if not others:
            return Score(None, f"the run has no {_TARGETS[self.target]}")
        ours = sorted(images, key=lambda image: image.trial_id)
        prompts, their_prompts = ([i.prompt for i in side] for side in (ours, others))
        if min(len(set(prompts)), len(set(their_prompts))) < 2:
            return Score(None, "pairs of different prompts need 2 prompts on each side")
        value, left_out = self._between(
            self.encoder.rows(ours, references),
            self.encoder.rows(others, references),
            prompts,
            their_prompts,
        )
        return Score(value, leave_one_out=left_out)

    def selftest(self) -> None:
        """The network loads; a set is 0 from itself and farther from darker pictures."""
        pictures = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
        rows = self.encoder.encode(list(pictures))
        darker = self.encoder.encode([picture // 4 for picture in pictures])
        names = [f"prompt {i}" for i in range(len(rows))]
        near, _ = self._between(rows, rows, names, names)
        far, _ = self._between(rows, darker, names, names)
        expect(abs(near) < 1e-9, f"{self.name} of a set to itself is {near:.3g}, not 0")
        expect(far > 1e-6, f"{self.name} of darker pictures is {far:.3g}, not above 0")

    def _others(self, image: ScoredImage, references: References) -> Sequence[ScoredImage]:
        if self.target == "base":
            return references.style_bank(image)
        return references.made_by(self.target, image)

    def _between(
        self, x: np.ndarray, y: np.ndarray, prompts_x: list[str], prompts_y: list[str]
    ) -> tuple[float, dict[str, float]]:
        is_gaussian = self.formula == "gaussian"
        value, left_out = apart_kernel_distance(
            unit(x) if is_gaussian else x,
            unit(y) if is_gaussian else y,
            prompts_x=prompts_x,
            prompts_y=prompts_y,
            kernel=distances.gaussian_kernel if is_gaussian else distances.polynomial_kernel,
        )
        scale = distances.CMMD_SCALE if is_gaussian else 1.0
        return scale * value, {name: scale * left for name, left in left_out.items()}


def kid_oracle() -> NativeDistance:
    """Kernel Inception distance to the native plugin."""
    return NativeDistance("kid-oracle", "polynomial", INCEPTION)


def kid_floor() -> NativeDistance:
    """Kernel Inception distance to the upgraded model without plugin."""
    return NativeDistance("kid-floor", "polynomial", INCEPTION, "floor")


def cmmd_oracle() -> NativeDistance:
    """CLIP maximum mean discrepancy to the native plugin."""
    return NativeDistance("cmmd-oracle", "gaussian", CLIP_336)


def cmmd_floor() -> NativeDistance:
    """CLIP maximum mean discrepancy to the upgraded model without plugin."""
    return NativeDistance("cmmd-floor", "gaussian", CLIP_336, "floor")


def pocket_kid_oracle() -> NativeDistance:
    """Kernel distance to the native plugin in the pocket scorer's features."""
    return NativeDistance("pocket-kid-oracle", "polynomial", PocketEncoder())


def pocket_kid_floor() -> NativeDistance:
    """Kernel distance to the upgraded model without plugin in the pocket scorer's features."""
    return NativeDistance("pocket-kid-floor", "polynomial", PocketEncoder(), "floor")


def style_csd_mmd() -> NativeDistance:
    """Maximum mean discrepancy of CSD rows to base + plugin."""
    return NativeDistance("style-csd-mmd", "gaussian", CSD, "base")
