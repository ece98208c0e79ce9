"""Kernel distances to images of the same run: native plugin, upgraded model, base + plugin.

The kernel distance is taken over pairs of different prompts, which differ in content and in noise,
so that the run's own images serve as held-out ones. Against the upgraded model without plugin
alone, a plugin that works looks like a loss of quality; against the native plugin's images (method
`oracle`) it does not. Against base + plugin, in features of style, it measures the style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metrics.base import (
    LAST_RANK,
    Better,
    Families,
    Quality,
    References,
    Role,
    Score,
    ScoredImage,
    expect,
)
from metrics.encoders import CLIP_336, CSD, INCEPTION, RowSource
from metrics.one_encoder import OneEncoder
from metrics.pocket_scorer import POCKET_FAMILIES, PocketEncoder
from metrics.sets import formulas
from metrics.styles import STYLE_KINDS

Target = Literal["oracle", "floor", "base"]
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
class RunDistance(OneEncoder):
    """Kernel distance to another method's images of the same run, pairs of different prompts."""

    name: str
    kernel: formulas.KernelName
    encoder: RowSource
    target: Target = "oracle"
    role: Role | None = None
    rank: int = LAST_RANK
    axis: Quality | None = None
    family: Families = None
    beside: tuple[str, ...] = ()
    better: Better = "lower"
    level: Literal["group"] = "group"

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        return f"Kernel distance to {_SHORT[self.target]} images of the run"

    @property
    def compares_with(self) -> tuple[str, ...]:
        """Return the methods whose images it needs."""
        return (self.target,)

    def recipe(self) -> str:
        """Return kernel, pairs, reference and network."""
        if self.target == "base":  # in its first words: with another recipe runs are scored again
            return (
                f"{formulas.CMMD_SCALE:g} x MMD^2, Gaussian kernel sigma {formulas.CMMD_SIGMA:g} "
                "on unit rows, pairs of different prompts, to base + plugin images; "
                f"{self.encoder.recipe()}"
            )
        words = f"{formulas.KERNELS[self.kernel].words}, pairs of different prompts"
        reference = f"reference: the run's {_TARGETS[self.target]}"
        return f"{words}; {self.encoder.recipe()}; {reference}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return True, but for distances to base: only if a plugin changes the style."""
        return self.target != "base" or image.is_of(STYLE_KINDS)

    def score(self, images: Sequence[ScoredImage], references: References) -> Score:
        """Return the distance; 0 for the reference itself (null for base), below 0 by chance."""
        if not images:
            return Score(None, "there are no images")
        if self.target == "base" and all(image.method == "base" for image in images):
            return Score(None, "self-reference: these are the base images")
        found = {i.trial_id: i for image in images for i in self._others(image, references)}
        others = sorted(found.values(), key=lambda image: image.trial_id)
        if not others:
            return Score(None, f"the run has no {_TARGETS[self.target]}")
        in_order = sorted(images, key=lambda image: image.trial_id)
        prompts, other_prompts = ([i.prompt for i in side] for side in (in_order, others))
        if min(len(set(prompts)), len(set(other_prompts))) < 2:
            return Score(None, "pairs of different prompts need 2 prompts on each side")
        value, left_out = self._between(
            self.encoder.rows(in_order, references),
            self.encoder.rows(others, references),
            prompts,
            other_prompts,
        )
        return Score(value, leave_one_out=left_out)

    def selftest(self) -> None:
        """Check that a set's distance is 0 to itself and greater to darkened copies."""
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
        form = formulas.KERNELS[self.kernel]
        value, left_out = formulas.cross_prompt_kernel_distance(
            form.ready(x),
            form.ready(y),
            prompts_x=prompts_x,
            prompts_y=prompts_y,
            kernel=form.kernel,
        )
        return form.scale * value, {name: form.scale * left for name, left in left_out.items()}


# k of `Quality`: pocket's is about the base model's distance to the upgraded model; those of
# Inception and CLIP are round values within the usual range of these distances, conventions for
# sorting alone
POCKET_SCALE, KID_SCALE, CMMD_SCALE = 0.25, 0.02, 1.0
KID_ORACLE = RunDistance("kid-oracle", "polynomial", INCEPTION)
KID_FLOOR = RunDistance(
    "kid-floor", "polynomial", INCEPTION, "floor", "quality", 12, Quality("floor", 20, KID_SCALE)
)
CMMD_ORACLE = RunDistance("cmmd-oracle", "gaussian", CLIP_336)
CMMD_FLOOR = RunDistance(
    "cmmd-floor", "gaussian", CLIP_336, "floor", "quality", 14, Quality("floor", 30, CMMD_SCALE)
)
POCKET_KID_ORACLE = RunDistance("pocket-kid-oracle", "polynomial", PocketEncoder())
POCKET_KID_FLOOR = RunDistance(
    "pocket-kid-floor",
    "polynomial",
    PocketEncoder(),
    "floor",
    "quality",
    5,
    Quality("floor", 10, POCKET_SCALE),
    family=POCKET_FAMILIES,
    beside=("pocket-kid",),
)
STYLE_CSD_MMD = RunDistance("style-csd-mmd", "gaussian", CSD, "base")
