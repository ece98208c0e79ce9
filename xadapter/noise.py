"""All random numbers of a render: one CPU generator per image, draws in a fixed, named order.

The noise of an image depends on its own generator alone: not on the batch, its size or its order.
Legend: b images, c channels, h height, w width of latents; everything is float32 on the CPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xadapter.errors import SettingError

Draw = Literal[
    "discarded",  # a full upgraded latent that is never used (released code only)
    "base_start",  # start of stage 1; with a source image, the noise put on it
    "source_posterior",  # sample of the base VAE's posterior of the source image
    "upgraded_posterior",  # sample of the upgraded VAE's posterior of the handed-over image
    "upgraded_noise",  # noise of the upgraded latent at the hand-over; start of a run from noise
    "base_noise",  # noise of the base latent at the hand-over
]
# Each draw moves all later ones of its generator: the order is part of the result.
CORRECTED_ORDER: tuple[Draw, ...] = (
    "base_start",
    "upgraded_posterior",
    "upgraded_noise",
    "base_noise",
    "source_posterior",
)
_UPGRADED_DRAWS = frozenset({"discarded", "upgraded_posterior", "upgraded_noise"})


@dataclass(frozen=True)
class Noise:
    """Unit Gaussian noise of a batch: float32 [b, c, h, w]; None for what was not drawn."""

    base_start: Tensor
    upgraded_posterior: Tensor
    upgraded_noise: Tensor
    base_noise: Tensor
    source_posterior: Tensor | None = None


def generators_from(seeds: Sequence[int]) -> list[torch.Generator]:
    """Return one CPU generator per seed."""
    return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]


def named_generators(seeds: Sequence[int], name: str) -> list[torch.Generator]:
    """Return one CPU generator per seed, independent of those of every other name."""
    # 63 bits of sha256 over name and seed: `manual_seed` takes a signed 64-bit number
    own = [hashlib.sha256(f"{name}\0{seed}".encode()).digest() for seed in seeds]
    return generators_from([int.from_bytes(digest[:8], "big") >> 1 for digest in own])


def independent_noise(
    seeds: Sequence[int], name: str, shapes_chw: Sequence[tuple[int, int, int]]
) -> tuple[Tensor, ...]:
    """Draw unit noise [b, c, h, w] of each shape from generators named for its use.

    For passes beside the two stages: their draws move none of the stages' numbers.
    """
    images = [
        [torch.randn(shape, generator=generator, dtype=torch.float32) for shape in shapes_chw]
        for generator in named_generators(seeds, name)
    ]
    return tuple(torch.stack(parts) for parts in zip(*images, strict=True))


@dataclass(frozen=True)
class NoiseSource:
    """Draws the noise of a batch from one CPU generator per image, image by image."""

    generators: Sequence[torch.Generator]
    order: tuple[Draw, ...] = CORRECTED_ORDER

    def __post_init__(self) -> None:
        if not self.generators:
            raise SettingError("a noise source needs one generator per image, got none")

    def draw(self, *, base_chw: tuple[int, int, int], upgraded_chw: tuple[int, int, int]) -> Noise:
        """Draw everything once; the batch size is the number of generators."""
        # image by image, not as one batch tensor: image i has the same noise in every batch
        images = [
            _draw_image(generator, self.order, base_chw, upgraded_chw)
            for generator in self.generators
        ]
        stacked = {name: torch.stack([image[name] for image in images]) for name in images[0]}
        return Noise(**stacked)


def _draw_image(
    generator: torch.Generator,
    order: tuple[Draw, ...],
    base_chw: tuple[int, int, int],
    upgraded_chw: tuple[int, int, int],
) -> Mapping[str, Tensor]:
    drawn = {}
    for name in order:
        shape = upgraded_chw if name in _UPGRADED_DRAWS else base_chw
        value = torch.randn(shape, generator=generator, dtype=torch.float32)
        if name != "discarded":  # drawn only to move the generator, as the released code does
            drawn[name] = value
    return drawn
