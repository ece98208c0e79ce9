"""LPIPS (Zhang et al. 2018, arXiv 1801.03924), version 0.1 of the lpips package.

To the base model's image it measures how much of the picture was kept, among the seeds of a case
how much the images differ, and to a tile condition how well the picture behind it was followed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, Protocol

import numpy as np

from metrics import resize
from metrics.base import Better, References, Score, ScoredImage, expect
from metrics.device import batch_size, in_batches
from metrics.encoders import Network
from metrics.pocket_scorer import PocketMaps
from metrics.weights import catalog

Pair = tuple[np.ndarray, np.ndarray]
PairToLoad = tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]]


class PairNetwork(Protocol):
    """Distances of pairs of uint8 pictures; `sizes` are the words of a recipe for unequal sizes."""

    @property
    def needs(self) -> tuple[str, ...]: ...
    @property
    def sizes(self) -> str: ...
    def recipe(self) -> str: ...
    def distances(self, pairs: Sequence[Pair]) -> list[float]: ...


@dataclass(frozen=True)
class LpipsNetwork(Network):
    """A network of the lpips package."""

    sizes: str = f", both at the smaller one's size ({resize.NAME})"

    def distances(self, pairs: Sequence[Pair]) -> list[float]:
        """Return distances of pairs of uint8 pictures, the larger one shrunk to the smaller."""
        at_size = [_of_one_size(*pair) for pair in pairs]
        by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, (a, _) in enumerate(at_size):
            by_shape[a.shape].append(place)
        found = [0.0] * len(pairs)
        for places in by_shape.values():
            values = in_batches(self.loaded().distances, [at_size[place] for place in places])
            for place, value in zip(places, values, strict=True):
                found[place] = value
        return found


def _of_one_size(a: np.ndarray, b: np.ndarray) -> Pair:
    height, width = min(a.shape[:2], b.shape[:2], key=lambda size: size[0] * size[1])
    return resize.clean_resize(a, (width, height)), resize.clean_resize(b, (width, height))


_WORDS = "LPIPS 0.1, inputs in [-1, 1]"
ALEX = LpipsNetwork("lpips_pair", catalog.ALEXNET, _WORDS, "alex")
VGG = LpipsNetwork("lpips_pair", catalog.VGG16, _WORDS, "vgg")


def scores_of_pairs(
    network: PairNetwork, pairs: Sequence[PairToLoad | None], *, missing: Sequence[str]
) -> list[Score]:
    """Return a distance for each pair, in the device's batches; None for no pair, with a reason.

    Only the pictures of one batch are loaded at a time.
    """
    there = [pair for pair in pairs if pair is not None]
    values: list[float] = []
    while len(values) < len(there):
        batch = there[len(values) : len(values) + batch_size()]
        values += network.distances([(load_a(), load_b()) for load_a, load_b in batch])
    left = iter(values)
    return [
        Score(None, why) if pair is None else Score(next(left))
        for pair, why in zip(pairs, missing, strict=True)
    ]


def selftest_of(network: PairNetwork) -> None:
    """Check that the distance is 0 for equal pictures, and larger for noise than for a change."""
    rng = np.random.default_rng(0)
    picture = np.repeat(np.repeat(rng.integers(0, 256, (8, 8, 3), np.uint8), 8, 0), 8, 1)
    slight = (picture.astype(np.int16) + 2).clip(0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, picture.shape, np.uint8)
    same, near, far = network.distances([(picture, p) for p in (picture, slight, noise)])
    expect(same == 0 < near < far, f"equal {same:.3g}, slight {near:.3g}, noise {far:.3g}")


@dataclass(frozen=True)
class Lpips:
    """LPIPS to the base image of the same case and seed: how much of the picture was kept."""

    name: str
    network: PairNetwork
    words: str = "LPIPS"
    better: Better = "lower"
    level: Literal["image"] = "image"

    @property
    def summary(self) -> str:
        """Return one line for `xbench metrics list`."""
        return f"{self.words} to the base image of the same case and seed"

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the network's weights."""
        return self.network.needs

    def recipe(self) -> str:
        """Return network and reference."""
        return f"{self.network.recipe()}; to the base image{self.network.sizes}"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return True: every image has a base image, or a reason why not."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> list[Score]:
        """Return one distance for each image; None for the base images."""
        pairs = [_with_base(image, references) for image in images]
        missing = [_why_missing(image) for image in images]
        return scores_of_pairs(self.network, pairs, missing=missing)

    def selftest(self) -> None:
        """Check the order of known distances."""
        selftest_of(self.network)


def _with_base(image: ScoredImage, references: References) -> PairToLoad | None:
    base = None if image.method == "base" else references.base_of(image)
    return None if base is None else (image.load_picture, base.load_picture)


def _why_missing(image: ScoredImage) -> str:
    if image.method == "base":
        return "self-reference: this is the base image"
    return "there is no base image of this case and seed"


@dataclass(frozen=True)
class LpipsDiversity:
    """Mean LPIPS between the seeds of a case: 0 where all give the same image."""

    name: str
    network: PairNetwork
    better: Better = "higher"
    level: Literal["group"] = "group"

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the names of the network's weights."""
        return self.network.needs

    def recipe(self) -> str:
        """Return network and pairs."""
        return f"{self.network.recipe()}; mean over cases of all pairs of seeds"

    def applies_to(self, image: ScoredImage) -> bool:
        """Return True: every image is one of its case's seeds."""
        return True

    def score(self, images: Sequence[ScoredImage], references: References) -> Score:
        """Return the mean over cases with 2 seeds or more, and the mean without each prompt."""
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
        """Check the order of known distances."""
        selftest_of(self.network)

    def _spread(self, images: Sequence[ScoredImage]) -> float:
        pictures = [image.load_picture() for image in images]
        return float(np.mean(self.network.distances([*combinations(pictures, 2)])))


LPIPS = Lpips("lpips", ALEX)
LPIPS_VGG = Lpips("lpips-vgg", VGG, "LPIPS with VGG")
POCKET_LPIPS = Lpips("pocket-lpips", PocketMaps(), "LPIPS without learned weights, pocket maps,")
LPIPS_DIVERSITY = LpipsDiversity("lpips-diversity", ALEX)
