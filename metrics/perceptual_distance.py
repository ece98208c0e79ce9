"""LPIPS (Zhang et al. 2018, arXiv 1801.03924), version 0.1 of the lpips package.

To the base model's image: how much of the picture was kept. Among the seeds of a case: how much the
images differ. To a tile condition: how well the picture behind it was followed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from metrics import resize
from metrics.base import Better, References, Score, ScoredImage, expect
from metrics.encoders import Network
from metrics.weights import catalog

ALEX = Network("lpips_pair", catalog.ALEXNET, "LPIPS 0.1, inputs in [-1, 1]", "alex")
VGG = Network("lpips_pair", catalog.VGG16, "LPIPS 0.1, inputs in [-1, 1]", "vgg")
_SIZE = f"both at the smaller one's size ({resize.NAME})"


def between(a: np.ndarray, b: np.ndarray, network: Network) -> float:
    """Distance of two uint8 pictures, the larger one shrunk to the smaller one's size."""
    height, width = min(a.shape[:2], b.shape[:2], key=lambda size: size[0] * size[1])
    at_size = (resize.clean_resize(p, (width, height)) for p in (a, b))
    return network.loaded().distance(*at_size)


def selftest_of(network: Network) -> None:
    """0 for equal pictures, more for noise than for a slight change."""
    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.integers(0, 256, (8, 8, 3), np.uint8), 8, 0), 8, 1)
    slight = (picture.astype(np.int16) + 2).clip(0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, picture.shape, np.uint8)
    same, near, far = (between(picture, p, network) for p in (picture, slight, noise))
    expect(same == 0 < near < far, f"equal {same:.3g}, slight {near:.3g}, noise {far:.3g}")


@dataclass(frozen=True)
class Lpips:
    """LPIPS to the base image of the same case and seed: what of the picture was kept."""

    network: Network = ALEX
    name: str = "lpips"
    better: Better = "lower"
    level: Literal["image"] = "image"

    @property
    def needs(self) -> tuple[str, ...]:
        """The backbone's weights."""
        return (self.network.weights.name,)

    def recipe(self) -> str:
        """Network and reference."""
        return f"{self.network.recipe()}; to the base image, {_SIZE}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Every image has a base image, or a reason why not."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """One distance for each image; None for the base images."""
        return [self._score(image, references.base_of(image)) for image in images]

    def selftest(self) -> None:
        """Known distances are in their order."""
        selftest_of(self.network)

    def _score(self, image: ScoredImage, base: ScoredImage | None) -> Score:
        if image.method == "base":
            return Score(None, "self-reference: this is the base image")
        if base is None:
            return Score(None, "there is no base image of this case and seed")
        return Score(between(image.load_picture(), base.load_picture(), self.network))


def lpips_vgg() -> Lpips:
    """LPIPS with VGG."""
    return Lpips(VGG, "lpips-vgg")


@dataclass(frozen=True)
class LpipsDiversity:
    """Mean LPIPS between the seeds of a case: 0 where all give the same image."""

    network: Network = ALEX
    name: str = "lpips-diversity"
    better: Better = "higher"
    level: Literal["group"] = "group"

    @property
    def needs(self) -> tuple[str, ...]:
        """The backbone's weights."""
        return (self.network.weights.name,)

    def recipe(self) -> str:
        """Network and pairs."""
        return f"{self.network.recipe()}; mean over cases of all pairs of seeds"

    def applies_to(self, image: ScoredImage) -> bool:
        """Every image is one of its case's seeds."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> Score:
        """The mean over cases with 2 seeds or more, and without each prompt."""
        by_case: dict[tuple[str, str], list[ScoredImage]] = defaultdict(list)
        for image in sorted(images, key=lambda image: image.seed):
            by_case[image.prompt, image.case_id].append(image)
        spread = {key: self._spread(seeds) for key, seeds in by_case.items() if len(seeds) > 1}
        if not spread:
            return Score(None, "diversity needs 2 seeds of a case")
        left_out = {
            prompt: float(np.mean(rest))
            for prompt in {prompt for prompt, _ in spread}
            if (rest := [value for (other, _), value in spread.items() if other != prompt])
        }
        return Score(float(np.mean(list(spread.values()))), leave_one_out=left_out)

    def selftest(self) -> None:
        """Known distances are in their order."""
        selftest_of(self.network)

    def _spread(self, images: Sequence[ScoredImage]) -> float:
        pictures = [image.load_picture() for image in images]
        return float(np.mean([between(a, b, self.network) for a, b in combinations(pictures, 2)]))
